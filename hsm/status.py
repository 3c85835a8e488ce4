"""The status of the functionality module, as it says itself."""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import Self

from hsm.errors import FrameInvalid
from hsm.requests import HEADER_LENGTH

_STATUS = struct.Struct(">BBBBBBhqIIQQQQ32s32s32s64s32s16s32sBB2xIIBBB9x")


class Mode(enum.IntEnum):
    """What the module does: issue, be changed, or replay official tests."""

    ONLINE = 1
    CEREMONY = 2
    CERTIFICATION = 3


class Profile(enum.IntEnum):
    """Whether its keys are real."""

    DEVELOPMENT = 1
    PRODUCTION = 2


def _text(octets: bytes) -> str:
    return octets.rstrip(b"\0 ").decode("utf-8", "replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleStatus:
    """Identity, mode, clock and counters; counters run from the start of the worker.

    Args:
        clock_minutes: minutes since 1970 in the zone of ``utc_offset_minutes``.
        keys_refused: objects that bear a key record but failed proof, attributes or profile.
        past_window_minutes, future_window_minutes: how far a token identifier may be from the clock.
    """

    mode: Mode
    profile: Profile
    config_root_owned: bool
    self_test_passed: bool
    sample_tables: bool
    logged_in: bool
    utc_offset_minutes: int
    clock_minutes: int
    keys: int
    keys_refused: int
    issued: int
    verified: int
    key_changes: int
    refused: int
    tables_name: str
    tables_digest: bytes
    source_digest: bytes
    module_id: str
    token_label: str
    token_serial: str
    library: str
    library_version: str
    past_window_minutes: int
    future_window_minutes: int
    module_version: str
    hardware: bool

    @classmethod
    def unpack(cls, answer: bytes) -> Self:
        """Read the module's answer, header included; raises FrameInvalid."""
        if len(answer) != HEADER_LENGTH + _STATUS.size:
            raise FrameInvalid("the status has the wrong length")
        fields = _STATUS.unpack(answer[HEADER_LENGTH:])
        mode, profile, rooted, tested, sample, logged_in, offset, clock, keys, keys_refused = fields[:10]
        issued, verified, key_changes, refused, name, digest, source, module_id, label, serial = fields[10:20]
        library, library_major, library_minor, past, future, major, minor, hardware = fields[20:]
        return cls(
            mode=Mode(mode),
            profile=Profile(profile),
            config_root_owned=bool(rooted),
            self_test_passed=bool(tested),
            sample_tables=bool(sample),
            logged_in=bool(logged_in),
            utc_offset_minutes=offset,
            clock_minutes=clock,
            keys=keys,
            keys_refused=keys_refused,
            issued=issued,
            verified=verified,
            key_changes=key_changes,
            refused=refused,
            tables_name=_text(name),
            tables_digest=digest,
            source_digest=source,
            module_id=_text(module_id),
            token_label=_text(label),
            token_serial=_text(serial),
            library=_text(library),
            library_version=f"{library_major}.{library_minor}",
            past_window_minutes=past,
            future_window_minutes=future,
            module_version=f"{major}.{minor}",
            hardware=bool(hardware),
        )
