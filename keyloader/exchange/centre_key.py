"""The key of a centre, as plans and files write it: a plain Ed25519 key, a line as in ``id_ed25519.pub``."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from hsm.errors import SignatureUnreadable
from hsm.ssh_signatures import OfficerKey


def _check(text: str) -> str:
    try:
        key = OfficerKey.parse(text)
    except SignatureUnreadable as error:
        raise ValueError(str(error)) from None
    if key.application:
        raise ValueError("a centre signs with a plain Ed25519 key")
    return str(key)


CentreKey = Annotated[str, AfterValidator(_check)]
