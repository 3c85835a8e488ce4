"""Who calls: the name in the client's certificate."""

from __future__ import annotations

from typing import Any

from appliance.errors import ClientUnnamed


def peer_name(context: Any) -> str:
    """Return the first subject alternative name, or else the common name, of the client; raises ClientUnnamed."""
    # Of all that is known of the peer only this: the rest, the certificate itself among it, costs more than a token.
    for value in context.peer_identities() or ():
        if value:
            return str(value.decode("utf-8", "replace"))
    raise ClientUnnamed("the client's certificate has neither a subject alternative name nor a common name")
