"""Where the functionality module is and how it is told of its configuration; apart, so as not to load PKCS#11."""

from __future__ import annotations

from pathlib import Path

LIBRARY_PATH = Path(__file__).parent / "module" / "libkeywatt-fm.so"
CONFIG_ENVIRONMENT = "KEYWATT_MODULE_CONFIG"
