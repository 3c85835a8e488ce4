"""The table at which a ceremony is held: what is shown, asked and typed. Plain where there is no terminal."""

from __future__ import annotations

import os
import select
import sys
import termios
from collections.abc import Sequence
from typing import TextIO, cast

import segno
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from keyloader.ceremonies.base import SecretSink
from keyloader.errors import CeremonyStopped, PlanChanged, TerminalMissing
from keyloader.proquints import spell

_GROUP = 4
_HEX = frozenset(b"0123456789abcdefABCDEF")
_BACK = frozenset(b"\x7f\x08")
_STOP = frozenset(b"\x03\x04\x1c")
_ENTER = frozenset(b"\r\n")
_ESCAPE = 0x1B
_INTRODUCERS = frozenset(b"[O")
_FINAL_FIRST, _FINAL_LAST = 0x40, 0x7E
_CONFIRMED = 8
_WAIT = 0.25


class Desk:
    """Questions and answers.

    Args:
        console: where things are shown.
        source: where answers come from.
        is_rehearsal: marks everything that is shown.
    """

    def __init__(self, console: Console, source: TextIO | None = None, *, is_rehearsal: bool = False) -> None:
        self.console = console
        self._source = sys.stdin if source is None else source
        self.is_rehearsal = is_rehearsal

    def say(self, text: str) -> None:
        """Show a line."""
        self.console.print(f"REHEARSAL  {text}" if self.is_rehearsal else text, markup=False)

    def show_plan(self, title: str, digest: bytes, steps: Sequence[str], actions: bytes) -> None:
        """Show what is to be done, the plan's digest in three ways, and that of the actions that officers approve."""
        heading = f"REHEARSAL: {title}" if self.is_rehearsal else title
        body = "\n".join(f"{number:>2}. {step}" for number, step in enumerate(steps, 1))
        self.console.print(Panel(Text(body), title=Text(heading), title_align="left"), soft_wrap=False)
        text = digest.hex()
        self.say("SHA-256 of the plan:")
        for at in range(0, 64, 32):
            self.say("    " + " ".join(text[place : place + 4] for place in range(at, at + 32, 4)))
        words = spell(digest).split()
        for start in (0, 8):
            self.say("    " + " ".join(words[start : start + 8]))
        self.say("SHA-256 of all that the module may do in this ceremony, as it stands in what officers sign:")
        self.say(f"    actions {actions.hex()}")
        if self.console.is_terminal:
            segno.make(text, micro=False, error="l").terminal(out=cast("TextIO", self.console.file), compact=True)

    def confirm_plan(self, digest: bytes) -> None:
        """Have the end of the digest typed; raises PlanChanged unless it is that of the plan."""
        text = digest.hex()
        typed = self.ask(
            f"Compare the digest with the one that was reviewed. Type its last {_CONFIRMED} characters to go on, "
            "anything else to stop"
        )
        if typed.replace(" ", "").lower() != text[-_CONFIRMED:]:
            raise PlanChanged("what was typed is not the end of this plan's digest")

    def ask(self, question: str) -> str:
        """Ask for a line; raises CeremonyStopped if there is none any more."""
        self.console.print(f"{question}: ", end="", markup=False)
        self._flush()
        if self._source is None:
            raise CeremonyStopped("there is nobody to ask: standard input is closed")
        while True:
            try:
                # Ctrl-C just before a wait does not end it, so that each wait is short.
                while self._source.isatty() and not select.select([self._source], [], [], _WAIT)[0]:
                    pass
                line = self._source.readline()
            except UnicodeDecodeError:
                line = "\N{REPLACEMENT CHARACTER}"
            except KeyboardInterrupt:
                raise CeremonyStopped("ended at the keyboard") from None
            if not line:
                raise CeremonyStopped("no more answers: the terminal is gone")
            if line.isascii():
                return line.strip()
            self.say("Answers are in ASCII; once more")

    def confirm(self, question: str) -> bool:
        """Ask a question until Yes or No is typed, in full."""
        while True:
            answer = self.ask(f"{question} Type Yes or No")
            if answer in {"Yes", "No"}:
                return answer == "Yes"

    def choose(self, question: str, names: Sequence[str]) -> str:
        """Have one of several names chosen by its number."""
        self.say(question)
        for number, name in enumerate(names, 1):
            self.say(f"    {number}  {name}")
        while True:
            answer = self.ask(f"Number, 1 to {len(names)}")
            if answer.isascii() and answer.isdigit() and 1 <= int(answer) <= len(names):
                return names[int(answer) - 1]

    def enter_secret(self, prompt: str, length: int, part: SecretSink) -> None:
        """Have ``length`` octets entered as hexadecimal digits, without echo, four digits at a time.

        Each four digits go to the sink as soon as they stand, and are overwritten here; backspace takes back digits of
        the present four only. The screen is cleared before and after.

        Raises:
            TerminalMissing: standard input is no terminal.
            CeremonyStopped: Ctrl-C or Ctrl-D.
        """
        descriptor = self._source.fileno()
        if not os.isatty(descriptor):
            raise TerminalMissing("a component is entered at a terminal only")
        before = termios.tcgetattr(descriptor)
        silent = termios.tcgetattr(descriptor)
        silent[3] &= ~(termios.ECHO | termios.ICANON | termios.ISIG)
        group = bytearray()
        try:
            # Before anything is asked: what is typed ahead is neither shown nor taken.
            termios.tcsetattr(descriptor, termios.TCSAFLUSH, silent)
            self._clear()
            self.say(prompt)
            self.say(
                f"{length * 2} hexadecimal digits; only how many is shown. Backspace within a group, Ctrl-C stops."
            )
            done = 0
            while done < length:
                self._read_group(descriptor, group, min(_GROUP, (length - done) * 2))
                octets = bytes.fromhex(group.decode("ascii"))
                part(done, octets)
                done += len(octets)
                self._wipe(group)
                self.console.print(f"[{done * 2} of {length * 2}] ", end="", markup=False)
                self._flush()
            # Still silent: a digit too many must not be shown, and nothing else be taken for an answer.
            self.say("Enter")
            while self._stroke(descriptor) not in _ENTER:
                pass
        finally:
            self._wipe(group)
            termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)
            self._clear()

    def show_secret(self, prompt: str, lines: Sequence[str]) -> None:
        """Show something to one person until Enter is pressed; the screen is cleared before and after.

        Raises:
            TerminalMissing: standard input is no terminal, or what is shown would go into a file.
            CeremonyStopped: Ctrl-C or Ctrl-D.
        """
        descriptor = self._source.fileno()
        if not os.isatty(descriptor) or not self.console.is_terminal:
            raise TerminalMissing("a share is shown at a terminal only")
        before = termios.tcgetattr(descriptor)
        silent = termios.tcgetattr(descriptor)
        silent[3] &= ~(termios.ECHO | termios.ICANON | termios.ISIG)
        try:
            termios.tcsetattr(descriptor, termios.TCSAFLUSH, silent)
            self._clear()
            self.say(prompt)
            for line in lines:
                self.say(f"    {line}")
            self.say("Press Enter when it is written down; Ctrl-C stops.")
            while self._stroke(descriptor) not in _ENTER:
                pass
        finally:
            termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)
            self._clear()

    def _read_group(self, descriptor: int, group: bytearray, size: int) -> None:
        while len(group) < size:
            stroke = self._stroke(descriptor)
            if stroke in _BACK:
                if group:
                    group[-1] = 0
                    del group[-1]
            elif stroke in _HEX:
                group.append(stroke)

    @staticmethod
    def _stroke(descriptor: int) -> int:
        """Return one stroke of the keyboard; cursor and function keys are none, though they send letters."""
        octet = bytearray(1)
        in_sequence = False
        while True:
            if os.readv(descriptor, [octet]) != 1 or octet[0] in _STOP:
                raise CeremonyStopped("ended at the keyboard")
            if octet[0] == _ESCAPE:
                in_sequence = True
            elif in_sequence:
                # ESC [ or ESC O, then parameters, then a letter or a tilde.
                in_sequence = octet[0] in _INTRODUCERS or not _FINAL_FIRST <= octet[0] <= _FINAL_LAST
            else:
                return octet[0]

    def _clear(self) -> None:
        if self.console.is_terminal:
            # The scrollback as well: what was shown to one officer is not for the next.
            self.console.file.write("\x1b[H\x1b[2J\x1b[3J")
            self._flush()

    def _flush(self) -> None:
        self.console.file.flush()

    @staticmethod
    def _wipe(octets: bytearray) -> None:
        for place in range(len(octets)):
            octets[place] = 0
        octets.clear()
