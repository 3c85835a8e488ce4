"""The token memory of a meter (IEC 62055-41, clause 7.3.5): the identifiers that it has accepted."""

from __future__ import annotations

import enum

STORE_SIZE = 50


class Verdict(enum.Enum):
    """What the memory says of an identifier."""

    FRESH = "fresh"
    USED = "used"
    OLD = "old"


class TokenMemory:
    """Fifty identifiers; a new one replaces the smallest.

    Args:
        manufactured: the TID of the date of manufacture, which fills the store, so that anything before it is old.
    """

    def __init__(self, manufactured: int = 0) -> None:
        self._identifiers = [manufactured] * STORE_SIZE

    def judge(self, token_identifier: int) -> Verdict:
        """Tell whether the identifier is stored, below all that is stored, or fresh."""
        if token_identifier in self._identifiers:
            return Verdict.USED
        return Verdict.OLD if token_identifier < min(self._identifiers) else Verdict.FRESH

    def store(self, token_identifier: int) -> None:
        """Replace the smallest entry."""
        self._identifiers[self._identifiers.index(min(self._identifiers))] = token_identifier

    def clear(self) -> None:
        """Forget everything, as at a base-date rollover. Identifier 0 then counts as used."""
        self._identifiers = [0] * STORE_SIZE
