"""Entry point ``keywatt-appliance``: settings of the gRPC library that it reads when it is loaded, then the server.

The library's newer event engine wakes a thread of its own for every read and write; the older poller, still in it, does
a call for a quarter less (docs/adr/0011). A name that a later version no longer knows is passed over by it.
"""

from __future__ import annotations

import os
import sys

_POLLER = "-event_engine_listener,-event_engine_client,-event_engine_for_all_other_endpoints"


def main() -> int:
    """Run the server."""
    os.environ.setdefault("GRPC_EXPERIMENTS", _POLLER)
    # It looks for forks at every turn; this process makes none once the library is loaded.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    from appliance import server  # noqa: PLC0415 - loads the library

    return server.main()


if __name__ == "__main__":
    sys.exit(main())
