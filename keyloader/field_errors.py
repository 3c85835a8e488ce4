"""How a file that is not of its form is described: every field that is wrong, never what stands in it."""

from __future__ import annotations

from pydantic import ValidationError


def describe(error: ValidationError) -> str:
    """Name every field that is wrong, never what stands in it."""
    lines = []
    for found in error.errors(include_input=False):
        field = ".".join(str(part + 1) if isinstance(part, int) else part for part in found["loc"])
        lines.append(f"{field}: {found['msg'].removeprefix('Value error, ')}" if field else found["msg"])
    return "; ".join(lines)
