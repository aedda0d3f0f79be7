"""A skills service of the test's own, with workspaces below the test's folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.skills.harness import Caller, Issuer, Service, serving
from tests.support.fixtures import NewDatabase
from tests.support.postgres import TestDatabase


@pytest.fixture
async def database(new_database: NewDatabase) -> TestDatabase:
    """An empty database with the schema of skills."""
    return await new_database("skills")


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    """The folder below which workspaces may be."""
    folder = tmp_path / "roots"
    folder.mkdir()
    return folder


@pytest.fixture
def ground(roots: Path) -> Path:
    """The directory of the workspace."""
    folder = roots / "ground"
    folder.mkdir()
    return folder


@pytest.fixture
def issuer() -> Issuer:
    """Who issues tokens."""
    return Issuer()


@pytest.fixture
async def service(
    database: TestDatabase, issuer: Issuer, tmp_path: Path, roots: Path
) -> AsyncIterator[Service]:
    """The service."""
    async with serving(database, issuer, tmp_path, (str(roots),)) as running:
        yield running


@pytest.fixture
def admin(service: Service) -> Caller:
    """An administrator."""
    return service.caller()


@pytest.fixture
async def workspace(admin: Caller, ground: Path) -> str:
    """The id of the workspace."""
    return await admin.workspace(ground)
