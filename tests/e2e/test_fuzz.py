"""Calls at random, by REST from the document and by gRPC from the contract: never a fault of ours.

Short and always the same; `make soak` makes many (tests/chaos/test_fuzz_openapi.py).
"""

from __future__ import annotations

import grpc

from tests.e2e.grpc_fuzz import GrpcFuzz
from tests.e2e.makers import Maker
from tests.e2e.mesh import LocalMesh
from tests.e2e.rpcs import OPTIONS
from tests.e2e.tenants import Tenant
from tests.support.rest_fuzz import RestFuzz

CALLS = 500
NUMBER = 1


async def real_ids(maker: Maker) -> dict[str, list[str]]:
    """Return ids of things that are there."""
    return {
        "agent_id": [await maker.agent()],
        "session_id": [await maker.session()],
        "turn_id": [await maker.turn()],
        "circle_id": [await maker.circle()],
        "task_id": [await maker.task()],
        "memory_id": [await maker.memory()],
        "workspace_id": [await maker.workspace()],
        "execution_id": [await maker.execution()],
        "grant_id": [await maker.grant()],
    }


async def test_operations_of_the_document_answer_as_it_says(
    mesh: LocalMesh, tenant: Tenant, maker: Maker
) -> None:
    ids = await real_ids(maker)
    report = RestFuzz(mesh.url, lambda: tenant.tokens.access_token, ids).run(CALLS, NUMBER)
    assert not report.failures, "\n".join(report.failures[:5])
    assert report.calls >= CALLS


async def test_rpcs_take_or_refuse_any_message(
    mesh: LocalMesh, tenant: Tenant, maker: Maker
) -> None:
    ids = await real_ids(maker)
    with grpc.insecure_channel(f"127.0.0.1:{mesh.port}", options=OPTIONS) as channel:
        report = GrpcFuzz(channel, lambda: tenant.tokens.access_token, ids).run(CALLS, NUMBER)
    assert not report.faults, "\n".join(report.faults[:5])
    assert report.calls >= CALLS
