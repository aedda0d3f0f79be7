"""One mesh for all end-to-end tests, started by the command, with two tenants in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import httpx
import pytest

from gathering_client import Gathering
from gathering_local.addresses import free_port
from tests.e2e import codebase
from tests.e2e.makers import SECRET_FILE, Maker
from tests.e2e.mesh import LocalMesh
from tests.e2e.rpcs import OPTIONS
from tests.e2e.tenants import Tenant, logged_in

# Two: whatever holds for a caller holds no matter which replica answers.
REPLICAS = int(os.environ.get("GATHERING_TEST_REPLICAS", "2"))
_OTHER_EMAIL = "admin@other.example"


def pytest_configure(config: pytest.Config) -> None:
    """Name our markers."""
    config.addinivalue_line("markers", "disruptive: takes the mesh down; runs after the others")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let tests that take the mesh down come last; allow the first test its start."""
    items.sort(key=lambda item: item.get_closest_marker("disruptive") is not None)
    for item in items:
        if "tests/e2e/" in item.path.as_posix():
            item.add_marker(pytest.mark.timeout(240))


@pytest.fixture(scope="session")
def mesh() -> Iterator[LocalMesh]:
    """Return the running mesh."""
    with tempfile.TemporaryDirectory(prefix="gathering-e2e-") as folder:
        Path(folder).chmod(0o711)  # PostgreSQL runs as another user when we are root.
        made = LocalMesh(Path(folder) / "home", free_port(), REPLICAS)
        try:
            made.up()
            yield made
        finally:
            made.down()


@pytest.fixture(scope="session")
def tenant(mesh: LocalMesh) -> Tenant:
    """Return the first tenant."""
    return logged_in(mesh, *mesh.admin)


@pytest.fixture(scope="session")
def other_tenant(mesh: LocalMesh) -> Tenant:
    """Return a second tenant, made by the operator's command."""
    command = [sys.executable, "-m", "gathering_gateway.admin", "create-tenant"]
    made = subprocess.run(
        [*command, "--name", "Other", "--email", _OTHER_EMAIL],
        env=mesh.environment_of("gateway"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    return logged_in(mesh, _OTHER_EMAIL, json.loads(made.stdout)["password"])


@pytest.fixture
async def client(tenant: Tenant) -> AsyncIterator[Gathering]:
    """Return the first tenant's client."""
    async with tenant.client() as connection:
        yield connection


@pytest.fixture
async def http(mesh: LocalMesh, tenant: Tenant) -> AsyncIterator[httpx.AsyncClient]:
    """Return an HTTP client at the edge, with the first tenant's token."""
    async with httpx.AsyncClient(
        base_url=mesh.url, headers=dict(tenant.headers), timeout=30, trust_env=False
    ) as connection:
        yield connection


@pytest.fixture
async def edge(mesh: LocalMesh) -> AsyncIterator[grpc.aio.Channel]:
    """Return a bare channel to the edge."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{mesh.port}", options=OPTIONS) as channel:
        yield channel


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a directory for the workspace of each tenant, with a secret in a file."""
    first, second = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")
    for folder in (first, second):
        (folder / SECRET_FILE).write_text(f"the secret of {folder.name}\n")
    return first, second


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Return a code base with known faults."""
    return codebase.write(tmp_path / "code")


@pytest.fixture
async def maker(client: Gathering, folders: tuple[Path, Path]) -> Maker:
    """Return what makes objects in the first tenant."""
    return Maker(client, str(folders[0]))
