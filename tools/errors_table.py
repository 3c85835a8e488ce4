"""Writes docs/errors.md from the error classes and the reasons of the module; with --check, says if it is to date."""

from __future__ import annotations

import sys
from pathlib import Path

from appliance import errors as appliance_errors
from appliance.interceptors.status import INTERNAL_REASON, status_code
from hsm import errors as hsm_errors
from hsm.reasons import Reason, hint
from keyloader import errors as keyloader_errors
from sts import errors as sts_errors

TARGET = Path(__file__).resolve().parents[1] / "docs" / "errors.md"
LOCAL = {"SIGNATURE_UNREADABLE", "CONFIGURATION_INVALID", "SETTINGS_INVALID", "SELF_TEST_FAILED"}
BASES = {"STS_INVALID", "MODULE_ERROR", "APPLIANCE_ERROR", "KEY_LOADER_ERROR"}


def subclasses(base: type[BaseException]) -> list[type[BaseException]]:
    """Return every class below ``base``."""
    return [found for direct in base.__subclasses__() for found in [direct, *subclasses(direct)]]


def reasons() -> dict[str, tuple[bool, str]]:
    """Return every reason that can reach a client, with whether a retry helps and what to do."""
    table: dict[str, tuple[bool, str]] = {}
    for base in (sts_errors.StsError, hsm_errors.HsmError, appliance_errors.ApplianceError):
        for error in subclasses(base):
            reason = getattr(error, "reason", "")
            if reason not in BASES | LOCAL and error is not hsm_errors.ModuleRefusal:
                table[reason] = (bool(getattr(error, "retryable", False)), str(getattr(error, "hint", "")))
    for code in Reason:
        if code is not Reason.OK:
            table.setdefault(code.name, (code is Reason.VERIFICATION_LIMIT, hint(code)))
    table[INTERNAL_REASON] = (False, "See the log of the appliance.")
    return table


def render() -> str:
    """Return the page."""
    lines = [
        "# Errors",
        "",
        "Made by `tools/errors_table.py` from the code; a test holds it to date. Reasons are stable. Every error is a",
        "`google.rpc.Status` with `ErrorInfo` (domain `keywatt.dev`; `hint` and `retryable` in its metadata); those",
        "that a retry can help carry `RetryInfo`.",
        "",
        "| reason | gRPC code | retry | what to do |",
        "|---|---|---|---|",
    ]
    for reason, (retryable, what) in sorted(reasons().items()):
        lines.append(f"| `{reason}` | {status_code(reason).name} | {'yes' if retryable else 'no'} | {what} |")
    lines += ["", "## Local tools", "", "| reason | what to do |", "|---|---|"]
    local = [*subclasses(keyloader_errors.KeyLoaderError), hsm_errors.SignatureUnreadable]
    for error in sorted(local, key=lambda error: str(getattr(error, "reason", ""))):
        lines.append(f"| `{getattr(error, 'reason', '')}` | {getattr(error, 'hint', '')} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the page, or with --check say whether it is to date."""
    if "--check" in sys.argv[1:]:
        return 0 if TARGET.read_text("utf-8") == render() else 1
    TARGET.write_text(render(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
