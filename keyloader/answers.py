"""How commands answer: results on standard output, errors in a sentence on standard error, and an exit status.

0 done, 1 refused or failed (nothing was changed), 2 a file or an argument is wrong, 3 stopped by those present, 4 a
record that is not proven, 5 a campaign in which meters were refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, TypeVar

import typer
from rich.console import Console

from hsm.errors import HsmError
from keyloader.errors import (
    BackupInvalid,
    CampaignInvalid,
    CeremonyStopped,
    KeyFileInvalid,
    KeyLoaderError,
    KeyLoadFileInvalid,
    PlanInvalid,
    RecordInvalid,
    RequestFileInvalid,
    TablesFileInvalid,
)

REFUSED, WRONG, STOPPED, NOT_PROVEN, METERS_REFUSED = 1, 2, 3, 4, 5
console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)
T = TypeVar("T")
_WRONG_FILES = (
    CampaignInvalid,
    PlanInvalid,
    TablesFileInvalid,
    KeyFileInvalid,
    KeyLoadFileInvalid,
    RequestFileInvalid,
    BackupInvalid,
)


def fail(error: Exception) -> NoReturn:
    """Say what is wrong and what to do, and leave with the status that belongs to it."""
    if isinstance(error, KeyLoaderError | HsmError):
        errors.print(f"{error.reason}: {error}", style="bold", markup=False)
        errors.print(f"  {error.hint}", markup=False)
    else:
        parts = [getattr(error, "filename", None), getattr(error, "strerror", None) or error]
        errors.print(": ".join(str(part) for part in parts if part), style="bold", markup=False)
    if isinstance(error, _WRONG_FILES):
        raise typer.Exit(WRONG)
    match error:
        case CeremonyStopped():
            raise typer.Exit(STOPPED)
        case RecordInvalid():
            raise typer.Exit(NOT_PROVEN)
        case _:
            raise typer.Exit(REFUSED)


def guarded(work: Callable[[], T]) -> T:
    """Do it; no traceback ever reaches those at the table."""
    try:
        return work()
    except (KeyLoaderError, HsmError, OSError) as error:
        fail(error)
    except KeyboardInterrupt:
        fail(CeremonyStopped("ended at the keyboard"))
    except Exception as error:  # noqa: BLE001 - whoever sits at the table gets a sentence, never a traceback
        fail(KeyLoaderError(f"unexpected: {type(error).__name__}"))
