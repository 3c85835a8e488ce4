"""Who calls: the name in the client's certificate."""

from __future__ import annotations

from typing import Any

from appliance.errors import ClientUnnamed
from hsm.frames import is_name


def peer_name(context: Any) -> str:
    """Return the name of the client; raises ClientUnnamed.

    It is the first subject alternative name; what else the library falls back on is refused before any handler is asked
    (:class:`appliance.tls.clients.ClientCertificates`).
    """
    # Of all that is known of the peer only this: the rest, the certificate itself among it, costs more than a token.
    for value in context.peer_identities() or ():
        if value:
            name = str(value.decode("utf-8", "replace"))
            if not is_name(name):
                raise ClientUnnamed("the client's name is longer than 1,024 octets or has control characters")
            return name
    raise ClientUnnamed("the client's certificate has no subject alternative name")
