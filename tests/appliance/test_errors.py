"""Every reason has one gRPC code, a hint, a line in the documentation, and nothing else leaks."""

from __future__ import annotations

import re
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2

from appliance.interceptors.status import INTERNAL_REASON, to_status
from hsm import errors as hsm_errors
from hsm.reasons import Reason
from tests.support.system import ROOT, load_script

table = load_script("tools/errors_table.py")
SOURCES = [path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)]


def test_documentation_is_to_date() -> None:
    assert table.TARGET.read_text("utf-8") == table.render(), "run python tools/errors_table.py"


def test_every_reason_is_well_formed_and_has_a_hint() -> None:
    for reason, (_, hint) in table.reasons().items():
        assert re.fullmatch(r"[A-Z][A-Z0-9_]+", reason)
        assert hint.endswith((".", "?"))


# What no test can bring about through a correct library and a correct appliance, and why.
UNREACHED = {
    "CIPHER_FAULT": "needs a wrong cipher in the module; its own check is what it is",
    "CERTIFICATION_KEY": "keys that are not public are not even shown in certification mode",
    INTERNAL_REASON: "an error that nobody foresaw; see the test below",
    "LIBRARY_FAULT": "reserved: faults of the library end the worker",
    "TOKEN_STORE_FULL": "needs 4,096 keys",
    "KEY_RECORD_INVALID": "appliance and module of different versions",
    "MODULE_FAULT": "faults of the library end the worker; the client sees MODULE_INTERRUPTED",
    "DECODER_KEY_INVALID": "reference code only",
}


def test_every_reason_is_reached_by_a_test() -> None:
    text = "\n".join(path.read_text("utf-8") for path in SOURCES)
    by_class = {
        error.reason: error.__name__
        for base in (table.sts_errors.StsError, hsm_errors.HsmError, table.appliance_errors.ApplianceError)
        for error in table.subclasses(base)
    }
    missing = [
        reason
        for reason in table.reasons()
        if reason not in UNREACHED
        and not re.search(rf"\b{reason}\b", text)
        and not re.search(rf"\b{by_class.get(reason, 'no-such-class')}\b", text)
    ]
    assert not missing, ", ".join(missing)


def test_an_unexpected_error_says_nothing_of_itself() -> None:
    reason, status = to_status(RuntimeError("token 12345678901234567890 pin 1234"))
    assert reason == INTERNAL_REASON
    assert status.code == grpc.StatusCode.INTERNAL.value[0]
    assert "1234" not in str(status)


@pytest.mark.parametrize("code", [code for code in Reason if code is not Reason.OK])
def test_every_refusal_of_the_module_becomes_a_status(code: Reason) -> None:
    reason, status = to_status(hsm_errors.ModuleRefusal(code))
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain, reason) == (code.name, "keywatt.dev", code.name)
    retry = error_details_pb2.RetryInfo()
    carries_retry = len(status.details) > 1 and status.details[1].Unpack(retry)
    assert carries_retry == (info.metadata["retryable"] == "true")
