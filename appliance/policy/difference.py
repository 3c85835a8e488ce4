"""What one policy says otherwise than another, line by line, for those who put it in force."""

from __future__ import annotations

from typing import Any

from appliance.policy.document import Policy

_NAMED = {"client": "name", "limit": "name"}


def _flat(value: Any, path: str, out: dict[str, str]) -> None:
    if isinstance(value, dict):
        for name, inner in value.items():
            _flat(inner, f"{path}.{name}" if path else name, out)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        key = _NAMED.get(path)
        for place, inner in enumerate(value, 1):
            _flat(inner, f"{path}[{inner[key] if key else place}]", out)
    else:
        out[path] = str(value)


def difference(before: Policy | None, after: Policy) -> list[str]:
    """Return lines that begin with - for what goes and + for what comes; clients and limits go by their names."""
    old: dict[str, str] = {}
    new: dict[str, str] = {}
    if before is not None:
        _flat(before.model_dump(mode="json"), "", old)
    _flat(after.model_dump(mode="json"), "", new)
    lines = []
    for path in sorted(old.keys() | new.keys()):
        if old.get(path) == new.get(path):
            continue
        if path in old:
            lines.append(f"- {path} = {old[path]}")
        if path in new:
            lines.append(f"+ {path} = {new[path]}")
    return lines
