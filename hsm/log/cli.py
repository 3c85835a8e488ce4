"""``keywatt-verify``: proves a log, an export, a receipt or two checkpoints, with nothing but files and public keys.

Exit status: 0 proven, 1 not proven, 2 the question makes no sense (no such file, no such key).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from hsm.log import export, leaves
from hsm.log.checkpoints import CHECKPOINT, Checkpoint
from hsm.log.errors import LogError, NoteInvalid, PolicyInvalid
from hsm.log.merkle import consistency_proof, verify_consistency
from hsm.log.notes import NOTE_MAX, Note, VerifierKey
from hsm.log.policy import WitnessPolicy
from hsm.log.receipts import Receipt
from hsm.log.tiles import TileReader, read_regular
from hsm.log.verifier import Finding, Report, verify_log

_PROVEN, _NOT_PROVEN, _USAGE = 0, 1, 2
_BAR = 30
_RECEIPT_MAX = 1 << 20


class _Bar:
    """A progress bar on standard error, if that is a terminal."""

    def __init__(self, total: int) -> None:
        self._total = max(total, 1)
        self._done = 0
        self._started = time.monotonic()
        self._shown = 0.0
        self._is_on = sys.stderr.isatty()

    def __call__(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if not self._is_on or (now - self._shown < 0.2 and self._done < self._total):
            return
        self._shown = now
        seconds = max(now - self._started, 0.001)
        rate = self._done / seconds
        left = (self._total - self._done) / max(rate, 1)
        filled = _BAR * self._done // self._total
        bar = "#" * filled + "." * (_BAR - filled)
        sys.stderr.write(f"\r[{bar}] {self._done:,} of {self._total:,}, {rate:,.0f}/s, {left:.0f} s left   ")
        if self._done >= self._total:
            sys.stderr.write("\n")
        sys.stderr.flush()


def key_argument(text: str) -> VerifierKey:
    """Read a verifier key, or the file that holds it; raises ArgumentTypeError."""
    path = Path(text)
    try:
        return VerifierKey.parse(path.read_text("utf-8").strip() if path.is_file() else text)
    except NoteInvalid as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _note(path: Path) -> Note:
    return Note.parse(read_regular(path, NOTE_MAX))


def _policy(arguments: argparse.Namespace) -> WitnessPolicy:
    if arguments.policy is None:
        return WitnessPolicy.of(arguments.witness, arguments.quorum)
    if arguments.witness or arguments.quorum:
        raise PolicyInvalid("give --policy, or --witness and --quorum")
    return WitnessPolicy.parse(read_regular(arguments.policy, NOTE_MAX).decode("utf-8", "replace"))


def _time(milliseconds: int) -> str:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds") if milliseconds else "-"
    except (ValueError, OverflowError, OSError):
        return f"{milliseconds} ms"


def _show_findings(findings: Sequence[Finding], subject: str) -> int:
    for finding in findings:
        print(f"NOT PROVEN: {finding}")
    if not findings:
        print(f"proven: {subject}")
    return _NOT_PROVEN if findings else _PROVEN


def _log(arguments: argparse.Namespace) -> int:
    size = 0
    # The verification says what is wrong with it.
    with contextlib.suppress(OSError, LogError):
        size = Checkpoint.parse(_note(arguments.log / CHECKPOINT).text).size
    report = verify_log(
        arguments.log,
        arguments.key,
        earlier=[_note(path) for path in arguments.earlier],
        policy=_policy(arguments),
        processes=arguments.processes,
        progress=_Bar(size),
    )
    if arguments.all_witnessed and report.witnessed != report.size:
        what = "not cosigned by witnesses from here on"
        report.findings.append(Finding(what=what, index=report.witnessed))
    if arguments.json:
        print(json.dumps(_as_json(report), sort_keys=True))
        return _PROVEN if report.is_whole else _NOT_PROVEN
    print(f"log        {report.origin}")
    print(f"entries    {report.size:,}, from {_time(report.first_time)} to {_time(report.last_time)}")
    print(f"root       {report.root.hex()}")
    for kind, count in sorted(report.counts.items()):
        print(f"  {kind:<10} {count:,}")
    for name, seconds in sorted(report.witnesses.items()):
        print(f"witness    {name}, {_time(seconds * 1000)}, {report.witnessed:,} entries")
    subject = f"all {report.size:,} entries, up to the root that {report.origin} signed"
    if report.witnesses:
        subject += f"; witnesses have cosigned the first {report.witnessed:,}"
    return _show_findings(report.findings, subject)


def _as_json(report: Report) -> dict[str, object]:
    return {
        "origin": report.origin,
        "size": report.size,
        "root": report.root.hex(),
        "counts": report.counts,
        "witnesses": report.witnesses,
        "witnessed": report.witnessed,
        "findings": [{"what": finding.what, "index": finding.index} for finding in report.findings],
    }


def _export(arguments: argparse.Namespace) -> int:
    checkpoint = Checkpoint.open(_note(arguments.checkpoint), arguments.key)
    with arguments.file.open(encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
        findings = export.verify(lines, checkpoint, _Bar(checkpoint.size))
    return _show_findings(findings, f"all {checkpoint.size:,} entries of {checkpoint.origin}")


def _receipt(arguments: argparse.Namespace) -> int:
    receipt = Receipt.parse(read_regular(arguments.file, _RECEIPT_MAX))
    checkpoint = receipt.verify(arguments.key, _policy(arguments))
    leaf = leaves.decode(receipt.entry)
    for name, value in sorted(leaf.items()):
        # Escaped: a name that a client chose must not look like a line of ours.
        shown = _time(value) if name == "time" else json.dumps(value).strip('"')
        print(f"{json.dumps(name)[1:-1]:<10} {shown}")
    if arguments.token is not None:
        found = leaves.token_hash("".join(arguments.token.split()).encode("utf-8", "replace"))
        if found not in leaves.tokens_of(leaf):
            return _show_findings([Finding(what="the receipt is of another token", index=receipt.index)], "")
    return _show_findings([], f"entry {receipt.index} of the log of {checkpoint.origin}, of {checkpoint.size:,}")


def _consistency(arguments: argparse.Namespace) -> int:
    old, new = (Checkpoint.open(_note(path), arguments.key) for path in (arguments.old, arguments.new))
    if old.size > new.size:
        old, new = new, old
    proof: list[bytes] = []
    if 0 < old.size < new.size:
        if arguments.log is None:
            print("two checkpoints of different sizes need --log, a copy of the log", file=sys.stderr)
            return _USAGE
        proof = consistency_proof(old.size, new.size, TileReader(arguments.log, new.size).node)
    verify_consistency(old.size, new.size, old.root, new.root, proof)
    return _show_findings([], f"the log of {new.size:,} entries begins with that of {old.size:,}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="keywatt-verify", description="Prove a log, an export, a receipt or two checkpoints, offline."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--key", type=key_argument, required=True, help="verifier key of the module, or a file with it")
    witnessed = argparse.ArgumentParser(add_help=False)
    witnessed.add_argument(
        "--witness", type=key_argument, action="append", default=[], help="verifier key of a witness"
    )
    witnessed.add_argument("--quorum", type=int, default=0, help="how many witnesses must have signed")
    witnessed.add_argument("--policy", type=Path, help="or a witness policy (c2sp.org/tlog-policy)")
    log = commands.add_parser("log", parents=[common, witnessed], help="a whole log")
    log.add_argument("log", type=Path, help="folder of the log, or a copy of it")
    log.add_argument("--earlier", type=Path, action="append", default=[], help="a checkpoint that was seen before")
    log.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="how many work at once")
    log.add_argument("--all-witnessed", action="store_true", help="refuse entries after the cosigned checkpoint")
    log.add_argument("--json", action="store_true", help="the report as JSON")
    log.set_defaults(work=_log)
    lines = commands.add_parser("export", parents=[common], help="an export, from entry 0 on")
    lines.add_argument("file", type=Path)
    lines.add_argument("--checkpoint", type=Path, required=True)
    lines.set_defaults(work=_export)
    receipt = commands.add_parser("receipt", parents=[common, witnessed], help="a receipt (.tlog-proof)")
    receipt.add_argument("file", type=Path)
    receipt.add_argument("--token", help="the twenty digits that it should be of")
    receipt.set_defaults(work=_receipt)
    both = commands.add_parser("consistency", parents=[common], help="two checkpoints of one log")
    both.add_argument("old", type=Path)
    both.add_argument("new", type=Path)
    both.add_argument("--log", type=Path, help="a copy of the log")
    both.set_defaults(work=_consistency)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; see the module."""
    parsed = _parser().parse_args(arguments)
    try:
        work: int = parsed.work(parsed)
    except PolicyInvalid as error:
        print(f"keywatt-verify: {error}", file=sys.stderr)
        return _USAGE
    except LogError as error:
        print(f"NOT PROVEN: {error}")
        return _NOT_PROVEN
    except OSError as error:
        print(f"keywatt-verify: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return _USAGE
    except KeyboardInterrupt:
        return _USAGE
    return work


if __name__ == "__main__":
    sys.exit(main())
