"""Files of EA07 tables as a licensee receives them: JSON with name, substitution1, substitution2, permutation."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from keyloader.errors import TablesFileInvalid
from sts.ciphers.sta_tables import StaTables
from sts.errors import SubstitutionTablesInvalid

_SIZE_MAX = 64 * 1024


class _TablesFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    name: str
    substitution1: list[int]
    substitution2: list[int]
    permutation: list[int]


def read(path: Path) -> StaTables:
    """Read a table file.

    Raises:
        TablesFileInvalid: with the field, never with an entry.
    """
    try:
        if path.stat().st_size > _SIZE_MAX:
            raise TablesFileInvalid(f"{path}: too large to be a table file")
        document = _TablesFile.model_validate_json(path.read_bytes())
        return StaTables(
            name=document.name,
            substitution1=tuple(document.substitution1),
            substitution2=tuple(document.substitution2),
            permutation=tuple(document.permutation),
        )
    except OSError as error:
        raise TablesFileInvalid(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "file"
        raise TablesFileInvalid(f"{path}: {field}: {first['msg']}") from None
    except SubstitutionTablesInvalid as error:
        raise TablesFileInvalid(f"{path}: {error}") from None
