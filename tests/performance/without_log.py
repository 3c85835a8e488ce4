"""The module process without its log, to see what the log costs; for nothing else.

python -m tests.performance.without_log …        as keywatt-module
"""

from __future__ import annotations

import sys

from hsm import supervisor, worker
from hsm.frames import pack_indices
from hsm.recorder import Recorder
from hsm.requests import item_count


def _record(_: Recorder, operation: object, __: object, request: bytes, *___: object) -> bytes:
    return pack_indices([None] * item_count(operation, request))  # type: ignore[arg-type]


if __name__ == "__main__":
    if "--listener" in sys.argv:
        Recorder.record = _record  # type: ignore[method-assign]
        sys.exit(worker.main())
    supervisor.WORKER_MODULE = "tests.performance.without_log"
    sys.exit(supervisor.main())
