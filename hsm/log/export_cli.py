"""``keywatt-export``: forwards the module's log to a SIEM, as syslog over TLS or as lines of JSON.

Exit status: 0 done, 1 the log is not what was signed or forwarded before, 2 it cannot be read or sent.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from hsm.log.cli import key_argument
from hsm.log.errors import LogError, TileMissing
from hsm.log.forwarding import Cursor, JsonLines, Sink, Syslog, forward, tls_context

_DONE, _NOT_PROVEN, _UNREACHABLE = 0, 1, 2
_PAUSE_SECONDS, _PAUSE_MAX_SECONDS = 1.0, 60.0


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise argparse.ArgumentTypeError("an address is HOST:PORT; syslog over TLS has 6514")
    return host.strip("[]"), int(port)


def _sink(arguments: argparse.Namespace) -> Sink:
    if arguments.jsonl is not None:
        return JsonLines(arguments.jsonl)
    context = tls_context(arguments.ca, arguments.certificate, arguments.private_key)
    return Syslog(arguments.syslog, context, arguments.key.name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="keywatt-export", description="Forward the module's log, at least once, each entry with its index."
    )
    parser.add_argument("log", type=Path, help="folder of the log")
    parser.add_argument("--key", type=key_argument, required=True, help="verifier key of the module, or a file with it")
    parser.add_argument("--cursor", type=Path, help="file that keeps how far it came; else it begins with entry 0")
    parser.add_argument("--follow", action="store_true", help="stay, and forward what is added")
    to = parser.add_mutually_exclusive_group(required=True)
    to.add_argument("--jsonl", type=Path, help="append lines of JSON to this file")
    to.add_argument("--syslog", type=_address, metavar="HOST:PORT", help="RFC 5424 over TLS (RFC 5425)")
    parser.add_argument("--ca", type=Path, help="with --syslog: certificates that are trusted (PEM)")
    parser.add_argument("--certificate", type=Path, help="with --syslog: our certificate (PEM)")
    parser.add_argument("--private-key", type=Path, help="with --syslog: its key (PEM)")
    return parser


def main(given: Sequence[str] | None = None) -> int:
    """Entry point; see the module."""
    parser = _parser()
    arguments = parser.parse_args(given)
    if arguments.syslog is not None and arguments.ca is None:
        parser.error("--syslog needs --ca: nothing is sent to a receiver that is not known")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(ValueError):
            signal.signal(number, lambda *_: stop.set())
    try:
        cursor = Cursor.read(arguments.cursor)
        sink = _sink(arguments)
        return _run(arguments, cursor, sink, stop)
    except LogError as error:
        print(f"keywatt-export: {error.reason}: {error}\n{error.hint}", file=sys.stderr)
        return _UNREACHABLE if isinstance(error, TileMissing) else _NOT_PROVEN
    except OSError as error:
        print(f"keywatt-export: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return _UNREACHABLE


def _run(arguments: argparse.Namespace, cursor: Cursor, sink: Sink, stop: threading.Event) -> int:
    pause = _PAUSE_SECONDS
    while True:
        try:
            count = forward(arguments.log, arguments.key, cursor, sink)
        except (OSError, TileMissing) as error:
            if not arguments.follow:
                raise
            # Receivers go and come, and a checkpoint may be replaced while it is read.
            print(
                f"keywatt-export: {error}; again in {pause:.0f} s, from entry {cursor.frontier.size}", file=sys.stderr
            )
            stop.wait(pause)
            pause = min(2 * pause, _PAUSE_MAX_SECONDS)
        else:
            pause = _PAUSE_SECONDS
            if count:
                print(f"keywatt-export: {count} entries, up to {cursor.frontier.size}", file=sys.stderr)
            if arguments.follow:
                stop.wait(_PAUSE_SECONDS)
        if stop.is_set() or not arguments.follow:
            return _DONE


if __name__ == "__main__":
    sys.exit(main())
