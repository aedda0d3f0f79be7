"""Ten thousand calls at random by REST, and as many by gRPC: `make soak`.

`SEED=` repeats a run, `CALLS=` says how many.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import httpx
import pytest

from gathering_local.addresses import free_port
from tests.e2e.grpc_fuzz import GrpcFuzz
from tests.e2e.makers import SECRET_FILE, Maker
from tests.e2e.mesh import LocalMesh
from tests.e2e.rpcs import OPTIONS
from tests.e2e.tenants import Tenant, logged_in
from tests.e2e.test_fuzz import real_ids
from tests.support.rest_fuzz import RestFuzz

CALLS = int(os.environ.get("CALLS", "10000"))
NUMBER = int(os.environ.get("SEED") or secrets.randbelow(2**31))
pytestmark = pytest.mark.timeout(7200)


def say(text: str) -> None:
    """Tell people who wait; pytest shows it at once with -s."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMesh]:
    """A mesh of its own."""
    folder = tmp_path_factory.mktemp("fuzzed")
    for parent in (folder, folder.parent):
        parent.chmod(0o711)  # PostgreSQL runs as another user when we are root.
    made = LocalMesh(folder / "home", free_port())
    try:
        made.up()
        yield made
    finally:
        made.down()


@pytest.fixture(scope="module")
def tenant(mesh: LocalMesh) -> Tenant:
    """Its first tenant."""
    return logged_in(mesh, *mesh.admin)


@pytest.fixture
async def maker(tenant: Tenant, tmp_path: Path) -> AsyncIterator[Maker]:
    """What makes objects in it."""
    (tmp_path / SECRET_FILE).write_text("a secret\n")
    async with tenant.client() as client:
        yield Maker(client, str(tmp_path))


def fresh_token(mesh: LocalMesh) -> str:
    """Return a token that was made now: the runs outlast one."""
    email, password = mesh.admin
    answer = httpx.post(
        f"{mesh.url}/v1/auth/login",
        json={"email": email, "password": password},
        timeout=60,
        trust_env=False,
    )
    return str(answer.json()["access_token"])


async def test_many_messages_by_grpc_find_no_fault(mesh: LocalMesh, maker: Maker) -> None:
    ids = await real_ids(maker)
    with grpc.insecure_channel(f"127.0.0.1:{mesh.port}", options=OPTIONS) as channel:
        fuzz = GrpcFuzz(channel, lambda: fresh_token(mesh), ids)
        report = fuzz.run(CALLS, NUMBER)
    say(f"seed {NUMBER}: {report.calls} calls by gRPC, {dict(report.statuses)}")
    assert not report.faults, "\n".join(report.faults[:20])
    assert report.calls >= CALLS


async def test_many_calls_of_the_document_find_no_fault(mesh: LocalMesh, maker: Maker) -> None:
    """Comes last: wrong credentials lock the machine's address out."""
    ids = await real_ids(maker)
    fuzz = RestFuzz(mesh.url, lambda: fresh_token(mesh), ids, doors=True)
    report = fuzz.run(CALLS, NUMBER)
    say(f"seed {NUMBER}: {report.calls} calls by REST, {dict(report.statuses)}")
    assert not report.failures, "\n".join(report.failures[:20])
    assert report.calls >= CALLS
