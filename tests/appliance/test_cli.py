"""The ``keywatt`` command, run as a person runs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests.support.system import System

KEYWATT = str(Path(sysconfig.get_path("scripts")) / "keywatt")
METER = ["--meter", "600727000000000009", "--sgc", "201457"]


def run(system: System, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"KEYWATT_CLIENT": str(system.state / "client" / "client.toml"), "COLUMNS": "200"}
    return subprocess.run(
        [KEYWATT, *arguments], capture_output=True, text=True, env=environment, timeout=30, check=False
    )


def test_credit_and_verify(online_system: System) -> None:
    result = run(online_system, "credit", *METER, "--amount", "25.6", "--json")
    assert result.returncode == 0
    answer = json.loads(result.stdout)
    assert re.fullmatch(r"\d{20}", answer["token"]["digits"])
    assert answer["effective_amount"] == "25.6"
    shown = run(online_system, "verify", answer["token"]["grouped"], *METER)
    assert shown.returncode == 0
    assert "Genuine" in shown.stdout
    assert "25.6 kWh" in shown.stdout
    wrong = run(online_system, "verify", answer["token"]["digits"], *METER, "--ti", "09")
    assert "Not genuine" in wrong.stdout
    assert wrong.returncode == 3
    rounded = run(online_system, "credit", *METER, "--amount", "5", "--kind", "gas-currency")
    assert "asked for 5" in rounded.stdout


@pytest.mark.parametrize("json_flag", [[], ["--json"]], ids=["text", "json"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["credit", *METER, "--amount", "1", "--kind", "water-currency"],
        ["credit", *METER, "--amount", "1", "--validate-only"],
        ["management", *METER, "--power-limit", "5000"],
        ["management", *METER, "--clear-credit", "all"],
        ["management", *METER, "--clear-tamper"],
        ["management", *METER, "--tariff-rate", "3"],
        ["management", *METER, "--unbalance-limit", "100"],
        ["management", *METER, "--water-factor", "4"],
        ["management", *METER, "--extended-set", "63:2"],
        ["management", *METER, "--proprietary", "12:77"],
        ["meter-test", "--test", "0"],
        ["meter-test", "--control", "ff", "--subclass", "1"],
        ["meter-test", "--extended-read", "63"],
        ["key-change", *METER, "--new-ti", "02"],
        ["key-change", *METER, "--new-ti", "02", "--ea", "7", "--set-size", "3"],
        ["keys"],
        ["status"],
    ],
    ids=lambda arguments: "-".join(a.lstrip("-") for a in arguments if not a.isdigit()),
)
def test_every_command(online_system: System, arguments: list[str], json_flag: list[str]) -> None:
    result = run(online_system, *arguments, *json_flag)
    assert result.returncode == 0, result.stderr
    assert result.stdout
    if json_flag:
        json.loads(result.stdout)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["credit", *METER, "--amount", "0"], 1, "AMOUNT_ZERO"),
        (["credit", "--meter", "12345678904", "--sgc", "201457", "--amount", "1"], 1, "DRN_CHECK_DIGIT"),
        (["credit", *METER, "--amount", "1", "--ea", "5"], 2, "7 or 11"),
        (["credit", *METER], 2, "--amount"),
        (["management", *METER], 2, "exactly one command"),
        (["management", *METER, "--tariff-rate", "1", "--clear-tamper"], 2, "exactly one command"),
        (["management", *METER, "--extended-set", "x"], 2, "NUMBER:NUMBER"),
        (["meter-test"], 2, "exactly one of"),
        (["reset-identifiers"], 1, "certification mode only"),
        (["verify", "123"], 1, "TOKEN_NUMBER_FORMAT"),
        (["verify", "58625789986991357486"], 1, "FIELD_MISSING"),
        (["verify", "58625789986991357486", "--meter", "1"], 2, "together"),
        (["credit", *METER, "--amount", "1", "--krn", "99999999999999"], 2, "255"),
        (["key-change", *METER, "--new-sgc", "203557", "--new-krn", "6"], 1, "base date 2035 has not come"),
        (["credit", "--meter", "1111111111", "--sgc", "201457", "--amount", "1"], 1, "11 or 13"),
        (["management", *METER, "--tariff-rate", "65536"], 1, "tariff_rate"),
        (["--profile", "/nowhere.toml", "status"], 2, "/nowhere.toml"),
    ],
)
def test_errors_are_for_persons(online_system: System, arguments: list[str], code: int, says: str) -> None:
    result = run(online_system, *arguments)
    assert result.returncode == code, result.stderr
    assert says in result.stderr
    assert "Traceback" not in result.stderr


def test_reset_in_certification_mode(certification_system: System) -> None:
    issue = ["credit", *METER, "--amount", "0.1", "--issue-time", "2014-03-01T13:00"]
    run(certification_system, "reset-identifiers")
    assert "5862 5789 9869 9135 7486" in run(certification_system, *issue).stdout
    assert "1 meters" in run(certification_system, "reset-identifiers").stdout
    assert "5862 5789 9869 9135 7486" in run(certification_system, *issue).stdout


def test_key_change_required(online_system: System) -> None:
    refused = run(online_system, "credit", *METER, "--amount", "1", "--ought", "201457/1/02")
    assert refused.returncode == 1
    assert "KEY_CHANGE_REQUIRED" in refused.stderr
    assert "tariff_index" in refused.stderr


@pytest.mark.parametrize("switch", ["--insecure", "--plaintext", "--no-tls"])
def test_no_insecure_switch(online_system: System, switch: str) -> None:
    result = run(online_system, switch, "status")
    assert result.returncode == 2
    assert "No such option" in result.stderr


def test_no_way_without_a_certificate(online_system: System, tmp_path: Path) -> None:
    profile = (online_system.state / "client" / "client.toml").read_text()
    path = tmp_path / "client.toml"
    path.write_text("\n".join(line for line in profile.splitlines() if "private_key" not in line))
    result = run(online_system, "--profile", str(path), "status")
    assert result.returncode == 2
    assert "private_key" in result.stderr
