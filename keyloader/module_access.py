"""How the key loader reaches the functionality module in ceremony mode, on a draft of the token store."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from hsm.ceremony import Ceremony
from hsm.session import ModuleSession
from hsm.session_paths import CONFIG_ENVIRONMENT

_SOFTHSM_CONFIG = """\
directories.tokendir = {tokens}
objectstore.backend = file
objectstore.umask = 0077
log.level = ERROR
slots.removable = false
slots.mechanisms = ALL
library.reset_on_fork = false
"""


@contextlib.contextmanager
def session_on(tokens: Path, ceremony_config: Path) -> Iterator[ModuleSession]:
    """Start the module on one folder of tokens, nobody logged in; once in a process.

    Args:
        tokens: the draft.
        ceremony_config: configuration of the module with ``mode = ceremony``.

    Raises:
        HsmError: the module does not start.
    """
    configuration = tokens.parent / f".{tokens.name}.conf"
    configuration.write_text(_SOFTHSM_CONFIG.format(tokens=tokens), "utf-8")
    os.environ["SOFTHSM2_CONF"] = str(configuration)
    os.environ[CONFIG_ENVIRONMENT] = str(ceremony_config)
    try:
        session = ModuleSession().open(None)
        try:
            yield session
        finally:
            session.finalize()
    finally:
        configuration.unlink(missing_ok=True)


@contextlib.contextmanager
def ceremony_on(tokens: Path, ceremony_config: Path, pin: str) -> Iterator[Ceremony]:
    """Start the module on a draft and log in; raises HsmError."""
    with session_on(tokens, ceremony_config) as session:
        session.close()
        session.open(pin)
        yield Ceremony(session)
