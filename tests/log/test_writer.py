"""The writer under every failure of the disk that we can make: nothing that was durable is lost, nothing is guessed."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hsm.log.errors import BatchTooLarge, LogDamaged, LogUnavailable
from hsm.log.export import read
from hsm.log.journal import Journal
from hsm.log.merkle import Frontier, leaf_hash
from hsm.log.tiles import TileReader
from hsm.log.verifier import verify_log
from hsm.log.writer import LogWriter
from tests.log.support import SIGNER, leaf, make_log, publish, refusal

SMALL = 64 * 1024


def entries_of(writer: LogWriter, folder: Path) -> list[bytes]:
    writer.fold()
    return [entry for _, entry in read(TileReader(folder, writer.size))]


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537])
def test_what_was_appended_is_read_again(tmp_path: Path, size: int) -> None:
    make_log(tmp_path / "log", size, batch=1000)
    writer = LogWriter.open(tmp_path / "log")
    frontier = Frontier()
    for number in range(size):
        frontier.add(leaf_hash(leaf(number)))
    assert (writer.size, writer.root()) == (size, frontier.root())
    writer.append([leaf(size)])
    assert entries_of(writer, tmp_path / "log")[-1] == leaf(size)
    writer.close()


def test_random_batches_and_restarts(tmp_path: Path) -> None:
    source, folder, made = random.Random(5), tmp_path / "log", 0
    writer = LogWriter.open(folder, journal_octets=SMALL)
    for _ in range(300):
        count = source.choice([1, 1, 1, 2, 5, 40, 100])
        assert writer.append([leaf(made + place) for place in range(count)]) == made
        made += count
        match source.randrange(8):
            case 0:
                publish(writer)
            case 1:
                writer.close()
                writer = LogWriter.open(folder, journal_octets=SMALL)
            case 2:
                # Not closed, as after a kill: the lock goes with the process.
                os.close(writer._lock)
                writer = LogWriter.open(folder, journal_octets=SMALL)
    publish(writer)
    writer.close()
    report = verify_log(folder, SIGNER.key)
    assert report.is_whole
    assert report.counts == {"issue": made}


def test_two_writers_are_one_too_many(tmp_path: Path) -> None:
    writer = LogWriter.open(tmp_path / "log")
    with pytest.raises(LogUnavailable):
        LogWriter.open(tmp_path / "log")
    writer.close()


def test_a_batch_beyond_the_journal_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    writer = LogWriter.open(tmp_path / "log", journal_octets=SMALL)
    writer.append([leaf(0)])
    with pytest.raises(BatchTooLarge):
        writer.append([b"x" * 60_000] * 2)
    # Nobody else suffers from it.
    writer.append([leaf(1)])
    writer.close()
    writer = LogWriter.open(tmp_path / "log")
    assert entries_of(writer, tmp_path / "log") == [leaf(0), leaf(1)]
    writer.close()


# --- faults at every call -----------------------------------------------------------------------------------------


class Disk:
    """Stands in for the calls that change the disk; the ``nth`` of them fails, and all after it, as on a dead disk."""

    def __init__(self, nth: int, how: str) -> None:
        self.left, self.how, self.failed = nth, how, False

    def step(self) -> bool:
        self.left -= 1
        if self.left < 0:
            self.failed = True
        return self.failed

    def error(self) -> OSError:
        return OSError(errno.ENOSPC if self.how == "full" else errno.EIO, "injected")

    def pwrite(self, descriptor: int, octets: memoryview, offset: int) -> int:
        if self.step():
            if self.how == "torn" and len(octets) > 1:
                # Some of it reaches the disk, and then the process is gone.
                PWRITE(descriptor, octets[: len(octets) // 2], offset)
            raise self.error()
        if self.how == "short" and len(octets) > 3:
            return PWRITE(descriptor, octets[: len(octets) // 2], offset)
        return PWRITE(descriptor, octets, offset)

    def flush(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def work(descriptor: int) -> None:
            if self.step():
                raise self.error()
            real(descriptor)

        return work

    def rename(self, path: Path, target: Path) -> Path:
        if self.step():
            raise self.error()
        return RENAME(path, target)


PWRITE, FSYNC, FDATASYNC, RENAME = os.pwrite, os.fsync, os.fdatasync, Path.rename


@contextmanager
def failing(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", disk.pwrite)
        patch.setattr(os, "fsync", disk.flush(FSYNC))
        patch.setattr(os, "fdatasync", disk.flush(FDATASYNC))
        patch.setattr(Path, "rename", lambda self, target: disk.rename(self, target))  # noqa: PLW0108 - a method of the path
        yield


def work_until_it_fails(folder: Path) -> list[bytes]:
    """Append, publish, fold; return what was acknowledged until the disk failed."""
    acknowledged: list[bytes] = []
    writer = None
    try:
        writer = LogWriter.open(folder, journal_octets=SMALL)
        number = writer.size
        for count in (1, 30, 100, 1, 126, 1, 60, 3):
            batch = [leaf(number + place) for place in range(count)]
            writer.append(batch)
            acknowledged += batch
            number += count
            if count in (1, 60):
                publish(writer)
        writer.fold()
    except LogUnavailable:
        pass
    finally:
        if writer is not None:
            writer.close()
    return acknowledged


@pytest.mark.parametrize("how", ["error", "full", "torn", "short"])
def test_whatever_call_fails_nothing_acknowledged_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    template = tmp_path / "template"
    make_log(template, 300, batch=50)
    nth, finished = 0, False
    while not finished:
        for start, known in ((template, 300), (None, 0)):
            folder = tmp_path / f"log-{nth}"
            if start is not None:
                shutil.copytree(start, folder)
            disk = Disk(nth, how)
            with failing(disk, monkeypatch):
                acknowledged = work_until_it_fails(folder)
            writer = LogWriter.open(folder, journal_octets=SMALL)
            found = entries_of(writer, folder)
            expected = [leaf(number) for number in range(known)] + acknowledged
            assert found[: len(expected)] == expected
            # What was not acknowledged may be there, but only as it was: it is the batch that was under way.
            assert found == [leaf(number) for number in range(len(found))]
            writer.append([leaf(len(found))])
            publish(writer)
            writer.close()
            assert verify_log(folder, SIGNER.key).is_whole
            shutil.rmtree(folder)
            finished = not disk.failed
        # A full disk fails where a broken one does; short writes are many: some of each say it.
        nth += {"full": 7, "short": 5}.get(how, 1)
    assert nth > 60


def test_after_a_failed_flush_the_writer_is_of_no_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = LogWriter.open(tmp_path / "log")
    with failing(Disk(1, "error"), monkeypatch), pytest.raises(LogUnavailable):
        writer.append([leaf(0)])
    for work in (lambda: writer.append([leaf(0)]), writer.fold, lambda: publish(writer)):
        with pytest.raises(LogUnavailable):
            work()
    writer.close()


# --- what a writer refuses to go on with --------------------------------------------------------------------------


def altered(path: Path, place: int) -> None:
    octets = bytearray(path.read_bytes())
    octets[place] ^= 1
    path.write_bytes(octets)


def journal_of(folder: Path, batches: int) -> Path:
    """Make a log whose journal holds several flushed batches that no tile has."""
    writer = LogWriter.open(folder)
    for number in range(batches):
        writer.append([leaf(number)])
    writer.close()
    return folder / "journal"


def test_a_flushed_batch_that_was_altered_is_not_taken_for_a_torn_one(tmp_path: Path) -> None:
    altered(journal_of(tmp_path / "log", 3), 4096 + 50)
    with pytest.raises(LogDamaged, match="entry 2"):
        LogWriter.open(tmp_path / "log")


def test_a_torn_batch_at_the_end_was_never_acknowledged(tmp_path: Path) -> None:
    altered(journal_of(tmp_path / "log", 3), 2 * 4096 + 50)
    writer = LogWriter.open(tmp_path / "log")
    assert writer.size == 2
    assert writer.is_torn
    writer.close()
    writer = LogWriter.open(tmp_path / "log")
    assert not writer.is_torn
    writer.close()


@pytest.mark.parametrize("how", ["delete", "empty", "shorter"])
def test_a_journal_that_is_gone_is_not_made_anew(tmp_path: Path, how: str) -> None:
    journal = journal_of(tmp_path / "log", 3)
    if how == "delete":
        journal.unlink()
    else:
        os.truncate(journal, 0 if how == "empty" else 1 << 20)
    with pytest.raises(LogDamaged, match="journal"):
        LogWriter.open(tmp_path / "log")


class PowerLoss(Disk):
    """Remembers what was flushed: what was not is gone when the power is."""

    def __init__(self, nth: int) -> None:
        super().__init__(nth, "error")
        self.durable: dict[str, bytes] = {}

    def flush(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def work(descriptor: int) -> None:
            if self.step():
                raise self.error()
            real(descriptor)
            path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
            if Path(path).is_file():
                self.durable[str(os.fstat(descriptor).st_ino)] = Path(path).read_bytes()

        return work

    def cut(self, folder: Path) -> None:
        """Leave of each file what was flushed of it: renames have reached the disk, contents not."""
        for path in folder.rglob("*"):
            if path.is_file():
                kept = self.durable.get(str(path.stat().st_ino), b"")
                if path.read_bytes() != kept:
                    path.write_bytes(kept)


@pytest.mark.parametrize("known", [0, 250, 300])
def test_power_that_fails_at_any_call_takes_nothing_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: int
) -> None:
    nth, disk = 0, PowerLoss(0)
    while nth == 0 or disk.failed:
        folder, disk = tmp_path / f"log-{nth}", PowerLoss(1 << 30)
        with failing(disk, monkeypatch):
            writer = LogWriter.open(folder, journal_octets=SMALL)
            if known:
                writer.append([leaf(number) for number in range(known)][:100])
                writer.append([leaf(number) for number in range(100, known)][:100])
                writer.append([leaf(number) for number in range(200, known)])
            publish(writer)
            writer.fold()
            writer.close()
            disk.left = nth
            acknowledged = work_until_it_fails(folder)
        disk.cut(folder)
        expected = [leaf(number) for number in range(known)] + acknowledged
        if disk.failed:
            writer = LogWriter.open(folder)
            assert entries_of(writer, folder)[: len(expected)] == expected, nth
            publish(writer)
            writer.close()
            assert verify_log(folder, SIGNER.key).is_whole
        shutil.rmtree(folder)
        nth += 1 if known == 250 else 3
    assert nth > 50


def test_a_writer_that_comes_back_can_be_held_to_what_it_had(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    make_log(folder, 10)
    shutil.copytree(folder, tmp_path / "before")
    writer = LogWriter.open(folder)
    writer.append([leaf(10)])
    held = writer.frontier()
    writer.close()
    writer = LogWriter.open(folder)
    assert writer.begins_with(held)
    writer.close()
    writer = LogWriter.open(tmp_path / "before")
    assert not writer.begins_with(held)
    writer.append([refusal(10), leaf(11)])
    writer.fold()
    assert not writer.begins_with(held)
    writer.close()


@pytest.mark.parametrize(
    "name", ["state.json", "tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/001.p/44", "checkpoint"]
)
@pytest.mark.parametrize("how", ["flip", "cut", "delete", "empty"])
def test_what_contradicts_itself_is_not_written_on(tmp_path: Path, name: str, how: str) -> None:
    make_log(tmp_path / "log", 300)
    path = tmp_path / "log" / name
    match how:
        case "flip":
            altered(path, 16)
        case "cut":
            path.write_bytes(path.read_bytes()[:-1])
        case "empty":
            path.write_bytes(b"")
        case "delete":
            path.unlink()
    if (name, how) == ("checkpoint", "delete"):
        # One that is not there can be signed anew; a witness or an earlier copy knows what was signed.
        LogWriter.open(tmp_path / "log").close()
        return
    with pytest.raises(LogDamaged):
        LogWriter.open(tmp_path / "log")


def test_a_log_that_is_shorter_than_what_was_signed_is_not_written_on(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    make_log(folder, 300)
    shutil.copytree(folder, tmp_path / "before")
    writer = LogWriter.open(folder)
    writer.append([leaf(300)])
    publish(writer)
    writer.close()
    shutil.copy(folder / "checkpoint", tmp_path / "before" / "checkpoint")
    with pytest.raises(LogDamaged, match="301"):
        LogWriter.open(tmp_path / "before")


def test_tiles_without_a_state_are_no_new_log(tmp_path: Path) -> None:
    make_log(tmp_path / "log", 3)
    (tmp_path / "log" / "state.json").unlink()
    with pytest.raises(LogDamaged):
        LogWriter.open(tmp_path / "log")


def test_readers_never_miss_a_tile_of_a_checkpoint_that_they_hold(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    notes = make_log(folder, 700, batch=9, every=9)
    assert len(notes) > 70
    for note in notes:
        size = int(note.text.split("\n")[1])
        reader = TileReader(folder, size)
        assert [entry for _, entry in read(reader)] == [leaf(number) for number in range(size)]


def test_the_journal_keeps_its_size(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    writer = LogWriter.open(folder, journal_octets=SMALL)
    for number in range(200):
        writer.append([leaf(number)])
    assert (folder / "journal").stat().st_size == SMALL
    writer.close()


def test_a_journal_is_made_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with failing(Disk(1, "error"), monkeypatch), pytest.raises(OSError, match="injected"):
        Journal.create(tmp_path / "journal", SMALL)
    assert not (tmp_path / "journal").exists()
    Journal.create(tmp_path / "journal", SMALL)
    journal: Any = Journal.open(tmp_path / "journal")
    assert list(journal.replay(0)) == []
    journal.close()
