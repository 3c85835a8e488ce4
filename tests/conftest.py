"""Fixtures for all tests: tokens with keys, made once and copied."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

# Tests start processes while gRPC's threads run in this one; its fork handlers do not survive that.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

import pytest
from hypothesis import settings

from appliance.ledger.storage.open import make_engine, upgrade
from hsm.session import ModuleSession
from tests.support.lab import CONTEXTS, RULES, Lab
from tests.support.postgres import Postgres
from tests.support.postgres import server as postgres_server

# A shared machine may be slow for a moment: no test asserts a wall-clock time.
settings.register_profile("keywatt", deadline=None)
settings.load_profile("keywatt")
_databases = itertools.count(1)


@pytest.fixture(scope="session")
def golden_lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab.create(tmp_path_factory.mktemp("golden") / "lab", CONTEXTS + RULES)


@pytest.fixture(scope="session")
def golden_public_lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab.create(tmp_path_factory.mktemp("golden-public") / "lab", CONTEXTS)


@pytest.fixture
def lab(golden_lab: Lab, tmp_path: Path) -> Lab:
    return golden_lab.copy(tmp_path / "lab")


@pytest.fixture
def online(lab: Lab) -> Iterator[ModuleSession]:
    with lab.session() as session:
        yield session


@pytest.fixture
def certification(golden_public_lab: Lab, tmp_path: Path) -> Iterator[ModuleSession]:
    lab = golden_public_lab.copy(tmp_path / "lab")
    lab.configure("certification")
    with lab.session() as session:
        yield session


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with postgres_server() as server:
        url = server.database("template_ledger")
        engine = make_engine(url)
        upgrade(engine)
        engine.dispose()
        yield server


@pytest.fixture
def postgres_url(postgres: Postgres) -> str:
    return postgres.database(f"ledger_{next(_databases)}", template="template_ledger")


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty ledger on each database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    skip = pytest.mark.skip(reason="needs root: runs processes as two system users")
    for item in items:
        if "root" in item.keywords:
            item.add_marker(skip)
