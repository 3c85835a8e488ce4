"""A system for all tests of the API, in each mode."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from appliance.client.client import KeywattClient
from tests.support.lab import CONTEXTS, RULES
from tests.support.system import System, running


@pytest.fixture(scope="package")
def online_system() -> Iterator[System]:
    with running("online", CONTEXTS + RULES) as system:
        yield system


@pytest.fixture(scope="package")
def certification_system() -> Iterator[System]:
    with running("certification") as system:
        yield system


@pytest.fixture
def client(online_system: System) -> Iterator[KeywattClient]:
    with online_system.client() as client:
        yield client


@pytest.fixture
def certification_client(certification_system: System) -> Iterator[KeywattClient]:
    from keywatt.certification.v1 import certification_pb2

    with certification_system.client() as client:
        client.call(client.certification.ResetTokenIdentifiers, certification_pb2.ResetTokenIdentifiersRequest())
        yield client
