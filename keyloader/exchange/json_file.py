"""Strict JSON files of pydantic models: one text for one value, errors that name the field and never what is in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, ValidationError

from keyloader.errors import KeyLoaderError
from keyloader.field_errors import describe

_SIZE_MAX = 1024 * 1024
Model = TypeVar("Model", bound=BaseModel)
Hex = Annotated[str, Field(pattern=r"^(?:[0-9a-f]{2})*$")]


def canonical(model: BaseModel, *, exclude: set[str] | None = None) -> bytes:
    """Return the octets that are signed: JSON with its names in order, no blanks."""
    value = model.model_dump(mode="json", exclude=exclude)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def canonical_of(octets: bytes, *, exclude: str) -> bytes:
    """Return the canonical octets of a JSON object as it stands, without one of its fields.

    Raises:
        ValueError: it is no object, or a name stands twice in one.
    """
    value = json.loads(octets, object_pairs_hook=_once)
    if not isinstance(value, dict):
        raise TypeError("this is no object")
    value.pop(exclude, None)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def dump(model: BaseModel) -> bytes:
    """Return the file."""
    return json.dumps(model.model_dump(mode="json"), sort_keys=True, indent=1).encode() + b"\n"


def load(model: type[Model], path: Path, error: type[KeyLoaderError]) -> Model:
    """Read a file; raises ``error``."""
    try:
        if path.stat().st_size > _SIZE_MAX:
            raise error(f"{path}: too large")
        return model.model_validate_json(path.read_bytes())
    except OSError as fault:
        raise error(f"{path}: {fault.strerror}") from None
    except ValidationError as fault:
        raise error(f"{path}: {describe(fault)}") from None
