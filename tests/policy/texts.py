"""Policies for tests."""

from __future__ import annotations

from appliance.policy.document import Policy

EVERYTHING = (
    '[[client.grant]]\nsupply_groups = ["*"]\n'
    'classes = ["0.0-7", "1.0-15", "2.0-2", "2.5-7", "2.10-15", "key-change"]\nfree_issue = true\n'
)


def client(name: str, grants: str = EVERYTHING, **fields: object) -> str:
    lines = "".join(f"{key} = {str(value).lower()}\n" for key, value in fields.items())
    return f'[[client]]\nname = "{name}"\n{lines}{grants}'


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).replace("'", '"') if isinstance(value, int | list) else f'"{value}"'


def limit(name: str, per: str = "client", window: str = "day", **fields: object) -> str:
    lines = "".join(f"{key} = {_toml(value)}\n" for key, value in fields.items())
    return f'[[limit]]\nname = "{name}"\nper = "{per}"\nwindow = "{window}"\n{lines}'


def policy_text(*parts: str, number: int = 1, module: str = "played") -> str:
    head = f'format = "keywatt-policy/1"\nnumber = {number}\ntitle = "A policy for tests"\nmodule = "{module}"\n'
    return head + "".join(parts)


def policy(*parts: str, number: int = 1, module: str = "played") -> Policy:
    return Policy.parse(policy_text(*parts, number=number, module=module).encode(), "policy.toml")
