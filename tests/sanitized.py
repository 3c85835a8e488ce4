"""Runs tests of the functionality module on a library built with sanitizers: python -m tests.sanitized LIBRARY ARGS…

The sanitizer's runtime must be preloaded; see `make sanitize`. Only tests that load the library in this process, and
nothing with RTLD_DEEPBIND (pycryptodome does), can run so.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hsm import session_paths


def main() -> int:
    session_paths.LIBRARY_PATH = Path(sys.argv[1]).resolve()
    # Output capture and the sanitizer's own reports do not go together.
    result = int(pytest.main(["-s", *sys.argv[2:]]))
    if str(session_paths.LIBRARY_PATH) not in Path("/proc/self/maps").read_text():
        raise SystemExit("the tests did not load the sanitized library")
    return result


if __name__ == "__main__":
    sys.exit(main())
