"""Entry point ``keywatt-appliance``: settings of the gRPC library that it reads when it is loaded, then the server.

The library's newer event engine wakes a thread of its own for every read and write; the older poller, still in it, does
a call for a quarter less (docs/adr/0011). A name that a later version no longer knows is passed over by it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from appliance.config import CONFIG_DEFAULT, TLS_SUITES, ApplianceSettings
from appliance.errors import ConfigurationInvalid

_POLLER = "-event_engine_listener,-event_engine_client,-event_engine_for_all_other_endpoints"


def _minimum_version(arguments: list[str]) -> str:
    """Return the version of TLS that the settings ask for; the library reads it when it is loaded, and never again."""
    path = CONFIG_DEFAULT
    for place, argument in enumerate(arguments):
        if argument == "--config":
            path = Path(next(iter(arguments[place + 1 :]), ""))
        elif argument.startswith("--config="):
            path = Path(argument.partition("=")[2])
    try:
        return ApplianceSettings.read(path).tls.minimum_version
    except ConfigurationInvalid:
        # The server reads it again, and says what is wrong.
        return "1.3"


def main() -> int:
    """Run the server."""
    os.environ.setdefault("GRPC_EXPERIMENTS", _POLLER)
    # It looks for forks at every turn; this process makes none once the library is loaded.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    # It would write a line that is no JSON for every handshake that fails: whoever likes could fill the log.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    if _minimum_version(sys.argv[1:]) == "1.3":
        os.environ["GRPC_SSL_CIPHER_SUITES"] = TLS_SUITES["1.3"]
    from appliance import server  # noqa: PLC0415 - loads the library

    return server.main()


if __name__ == "__main__":
    sys.exit(main())
