"""Each way to alter a log is found by the verifier, and where it begins is named."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hsm.log import export
from hsm.log.checkpoints import CHECKPOINT, WITNESSED, Checkpoint
from hsm.log.cli import main
from hsm.log.merkle import HASH_LENGTH
from hsm.log.notes import COSIGNATURE, Note, Signature
from hsm.log.policy import NO_WITNESSES, WitnessPolicy
from hsm.log.tiles import TileReader, pack_entry, unpack_bundle
from hsm.log.verifier import Finding, verify_log
from hsm.log.writer import LogWriter
from tests.log.support import SIGNER, Signer, leaf, make_log, publish, refusal

SIZE = 700


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Note]]:
    folder = tmp_path_factory.mktemp("original") / "log"
    return folder, make_log(folder, SIZE, every=100)


@pytest.fixture
def log(original: tuple[Path, list[Note]], tmp_path: Path) -> Path:
    shutil.copytree(original[0], tmp_path / "log")
    return tmp_path / "log"


def findings(folder: Path, earlier: list[Note] | None = None, policy: WitnessPolicy = NO_WITNESSES) -> list[Finding]:
    return verify_log(folder, SIGNER.key, earlier=earlier or [], policy=policy).findings


def bundle(folder: Path, name: str, change: Callable[[list[bytes]], list[bytes]]) -> None:
    path = folder / "tile" / "entries" / name
    width = 256 if "/" not in name else int(name.split("/")[1])
    path.write_bytes(b"".join(map(pack_entry, change(unpack_bundle(path.read_bytes(), width, name)))))


def swapped(items: list[bytes], one: int, other: int) -> list[bytes]:
    items = list(items)
    items[one], items[other] = items[other], items[one]
    return items


def test_an_honest_log_is_proven(log: Path, original: tuple[Path, list[Note]]) -> None:
    report = verify_log(log, SIGNER.key, earlier=original[1], processes=2)
    assert report.is_whole
    assert (report.size, report.counts) == (SIZE, {"issue": SIZE})
    assert report.first_time == 1_700_000_000_000
    assert report.last_time == 1_700_000_000_000 + SIZE - 1


def test_flipped_entries_are_found_each(log: Path) -> None:
    for name, index in (("000", 0), ("000", 255), ("001", 256 + 17), ("002.p/188", 699)):
        path = log / "tile" / "entries" / name
        before = path.read_bytes()
        place = index % 256
        bundle(
            log,
            name,
            lambda items, place=place: [  # type: ignore[misc]
                item.replace(b'"value":"256"', b'"value":"257"') if at == place else item
                for at, item in enumerate(items)
            ],
        )
        assert findings(log)[0].index == index
        path.write_bytes(before)
    assert not findings(log)


def test_flipped_hashes_are_found(log: Path) -> None:
    for name, place, index in (
        ("tile/0/000", 3 * HASH_LENGTH, 3),
        ("tile/0/002.p/188", 187 * HASH_LENGTH + 31, 699),
        ("tile/1/000.p/2", HASH_LENGTH, 256),
    ):
        path = log / name
        before = path.read_bytes()
        path.write_bytes(before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :])
        assert findings(log)[0].index == index, name
        path.write_bytes(before)


@pytest.mark.parametrize(
    ("change", "index"),
    [
        (lambda items: items[:5] + items[6:], 256),
        (lambda items: swapped(items, 10, 11), 256 + 10),
        (lambda items: [*items[:20], items[3], *items[21:]], 256 + 20),
        (lambda items: items[:-1], 256),
        (lambda items: [*items, items[0]], 256),
    ],
    ids=["delete", "reorder", "replay", "truncate", "append"],
)
def test_changed_bundles_are_found(log: Path, change: Callable[[list[bytes]], list[bytes]], index: int) -> None:
    bundle(log, "001", change)
    assert findings(log)[0].index == index


def test_deleted_and_truncated_files_are_found(log: Path) -> None:
    for name, index in (
        ("tile/entries/001", 256),
        ("tile/entries/002.p/188", 512),
        ("tile/0/000", 0),
        ("tile/0/002.p/188", 512),
        ("tile/1/000.p/2", 0),
    ):
        path = log / name
        before = path.read_bytes()
        path.write_bytes(before[:-1])
        assert findings(log)[0].index == index, name
        path.unlink()
        assert findings(log)[0].index == index, name
        path.mkdir()
        assert findings(log)[0].index == index, name
        path.rmdir()
        path.write_bytes(before)
    assert not findings(log)


def rebuilt(folder: Path, entries: list[bytes], signer: Signer = SIGNER) -> Note:
    """Write the log anew, consistent in itself, as an attacker with the folder would."""
    shutil.rmtree(folder)
    writer = LogWriter.open(folder)
    for start in range(0, len(entries), 100):
        writer.append(entries[start : start + 100])
    note = publish(writer, signer)
    writer.fold()
    writer.close()
    return note


def test_a_log_rewritten_whole_does_not_have_the_signed_root(log: Path, original: tuple[Path, list[Note]]) -> None:
    signed = (log / CHECKPOINT).read_bytes()
    entries = [leaf(number) for number in range(SIZE)]
    entries[450] = entries[450].replace(b'"value":"256"', b'"value":"1"')
    rebuilt(log, entries)
    (log / CHECKPOINT).write_bytes(signed)
    (found,) = findings(log)
    assert found.index == 0
    # With checkpoints that were kept elsewhere the place is narrowed down: 400 agrees, 500 does not.
    first, last = findings(log, original[1][:-1])
    assert first.index == last.index == 400
    assert "at 500 entries" in first.what


def test_a_fork_that_the_key_itself_signed_is_found_by_an_earlier_checkpoint(
    log: Path, original: tuple[Path, list[Note]]
) -> None:
    entries = [leaf(number) for number in range(SIZE)]
    entries[450] = refusal(450)
    rebuilt(log, [*entries, leaf(SIZE)])
    assert not findings(log)
    (found,) = findings(log, original[1])
    assert found.index == 400
    assert main(["log", str(log), "--key", str(SIGNER.key), "--earlier", str(saved(log, original[1][-1]))]) == 1


def saved(folder: Path, note: Note) -> Path:
    path = folder.parent / "earlier"
    path.write_bytes(note.pack())
    return path


def test_a_log_signed_with_another_key_is_found(log: Path) -> None:
    other = Signer.make(seed=9)
    rebuilt(log, [leaf(number) for number in range(SIZE)], other)
    assert "has not signed" in findings(log)[0].what
    # The same name and key id, but a signature of another key.
    note = Note.parse((log / CHECKPOINT).read_bytes())
    forged = Signature(name=note.signatures[0].name, key_id=SIGNER.key.key_id, octets=note.signatures[0].octets)
    (log / CHECKPOINT).write_bytes(Note(text=note.text, signatures=(forged,)).pack())
    assert "is wrong" in findings(log)[0].what


def test_a_rewound_disk_is_found_by_an_earlier_checkpoint(log: Path, tmp_path: Path) -> None:
    shutil.copytree(log, tmp_path / "image")
    writer = LogWriter.open(log)
    writer.append([leaf(SIZE)])
    newest = publish(writer)
    writer.close()
    assert not findings(tmp_path / "image")
    (found,) = findings(tmp_path / "image", [newest])
    assert found.index == SIZE


def test_a_replayed_checkpoint_hides_nothing_that_was_seen(log: Path, original: tuple[Path, list[Note]]) -> None:
    (log / CHECKPOINT).write_bytes(original[1][2].pack())
    report = verify_log(log, SIGNER.key, earlier=[original[1][-1]])
    assert report.findings[0].index == 300


@pytest.mark.parametrize(
    "octets", [b"", b"rubbish", b"\xff" * 100, b"module-1\n700\nAAAA\n\n\xe2\x80\x94 module-1 AAAAAAAA\n"]
)
def test_a_checkpoint_that_is_none_is_a_finding(log: Path, octets: bytes) -> None:
    (log / CHECKPOINT).write_bytes(octets)
    assert findings(log)[0].index is None
    assert main(["log", str(log), "--key", str(SIGNER.key)]) == 1


def test_entries_that_nobody_of_ours_wrote_are_found(log: Path) -> None:
    entries = [leaf(number) for number in range(10)]
    entries[4] = b'{"v": 1}'
    rebuilt(log, entries)
    assert findings(log)[0].index == 4


def test_a_quorum_of_witnesses_is_counted(log: Path) -> None:
    witnesses = [Signer.make(f"witness-{number}", COSIGNATURE, seed=20 + number) for number in range(3)]
    keys = [witness.key for witness in witnesses]
    note = Note.parse((log / CHECKPOINT).read_bytes())
    cosigned = Note(text=note.text, signatures=(*note.signatures, *(one.sign(note.text) for one in witnesses[:2])))
    (log / CHECKPOINT).write_bytes(cosigned.pack())
    report = verify_log(log, SIGNER.key, policy=WitnessPolicy.of(keys, 2))
    assert report.is_whole
    assert report.witnessed == report.size
    assert not verify_log(log, SIGNER.key, policy=WitnessPolicy.of(keys, 3)).is_whole


def test_a_quorum_may_lie_on_the_checkpoint_before(
    log: Path, original: tuple[Path, list[Note]], capsys: pytest.CaptureFixture[str]
) -> None:
    witness = Signer.make("witness-1", COSIGNATURE, seed=20)
    policy = WitnessPolicy.of([witness.key], 1)
    older = original[1][2]
    (log / WITNESSED).write_bytes(older.merged([witness.sign(older.text)]).pack())
    report = verify_log(log, SIGNER.key, policy=policy)
    assert report.is_whole
    assert report.witnessed == Checkpoint.parse(older.text).size
    assert main(["log", str(log), "--key", str(SIGNER.key), "--witness", str(witness.key), "--quorum", "1"]) == 0
    shown = capsys.readouterr().out
    assert "witness    witness-1, " in shown
    assert "cosigned the first" in shown
    # A copy of a log that grew meanwhile: the cosigned one is the newer.
    newest = Note.parse((log / CHECKPOINT).read_bytes())
    (log / WITNESSED).write_bytes(newest.merged([witness.sign(newest.text)]).pack())
    (log / CHECKPOINT).write_bytes(older.pack())
    grown = verify_log(log, SIGNER.key, policy=policy)
    assert (grown.size, grown.witnessed, grown.findings) == (SIZE, SIZE, [])
    (log / CHECKPOINT).write_bytes(newest.pack())
    # What is not cosigned can be asked for, and a policy can be for another log.
    (log / WITNESSED).write_bytes(older.merged([witness.sign(older.text)]).pack())
    arguments = ["log", str(log), "--key", str(SIGNER.key), "--witness", str(witness.key), "--quorum", "1"]
    assert main([*arguments, "--all-witnessed"]) == 1
    assert main([*arguments, "--all-witnessed", "--json"]) == 1
    (log.parent / "policy").write_text(f"log {Signer.make('other', seed=77).key}\nquorum none\n")
    assert main([*arguments[:4], "--policy", str(log.parent / "policy")]) == 1
    assert main([*arguments, "--policy", str(log.parent / "policy")]) == 2
    # One of another history, and one whose witness did not sign what it should have.
    other = SIGNER.checkpoint(Checkpoint.parse(older.text).size, bytes(32))
    (log / WITNESSED).write_bytes(other.merged([witness.sign(other.text)]).pack())
    assert findings(log, policy=policy)
    (log / WITNESSED).write_bytes(older.merged([witness.sign(other.text)]).pack())
    assert findings(log, policy=policy)
    (log / WITNESSED).write_bytes(b"")
    assert findings(log, policy=policy)


def test_exports_are_proven(log: Path, tmp_path: Path) -> None:
    checkpoint = Checkpoint.parse(Note.parse((log / CHECKPOINT).read_bytes()).text)
    lines = [export.line(index, entry) for index, entry in export.read(TileReader(log, SIZE))]
    assert export.verify(lines, checkpoint) == []
    assert export.verify(lines[:-1], checkpoint)[0].index == SIZE - 1
    assert export.verify([*lines[:5], *lines[6:]], checkpoint)[0].index == 5
    assert export.verify([lines[1], lines[0], *lines[2:]], checkpoint)[0].index == 0
    changed = lines[7].replace('"value":"256"', '"value":"2560"')
    assert export.verify([*lines[:7], changed, *lines[8:]], checkpoint) != []
    for wrong in ("", "{}", "[]", '{"index":7,"leaf":{}}', '{"index":"7","leaf":{}}'):
        assert export.verify([*lines[:7], wrong, *lines[8:]], checkpoint)[0].index == 7
    path = tmp_path / "export.jsonl"
    path.write_text("".join(lines))
    arguments = ["export", str(path), "--checkpoint", str(log / CHECKPOINT), "--key", str(SIGNER.key)]
    assert main(arguments) == 0
    path.write_text("".join(lines[:-1]))
    assert main(arguments) == 1


def test_two_checkpoints_are_proven(log: Path, original: tuple[Path, list[Note]], tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(original[1][1].pack())
    new.write_bytes(original[1][4].pack())
    key = ["--key", str(SIGNER.key)]
    assert main(["consistency", str(old), str(new), "--log", str(log), *key]) == 0
    assert main(["consistency", str(new), str(old), "--log", str(log), *key]) == 0
    assert main(["consistency", str(old), str(old), *key]) == 0
    assert main(["consistency", str(old), str(new), *key]) == 2
    other = SIGNER.checkpoint(200, bytes(32))
    old.write_bytes(other.pack())
    assert main(["consistency", str(old), str(new), "--log", str(log), *key]) == 1
    assert main(["consistency", str(tmp_path / "none"), str(new), *key]) == 2


def test_the_verifier_needs_nothing_but_cryptography(log: Path) -> None:
    program = (
        "import sys; from hsm.log.cli import main; code = main(sys.argv[1:]); "
        "assert not {'pydantic', 'structlog', 'grpc', 'google.protobuf', 'pkcs11', 'sqlalchemy', 'typer'} & set(sys.modules); "
        "sys.exit(code)"
    )
    command = [sys.executable, "-c", program, "log", str(log), "--key", str(SIGNER.key), "--processes", "2", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert '"findings": []' in done.stdout
