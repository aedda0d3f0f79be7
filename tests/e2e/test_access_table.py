"""Who is let in to which RPC, from a table: each kind of caller, through the edge.

Calls carry bytes that are no message: they are read once the caller was let in, so the answer tells
who was, and nothing has an effect.
"""

from __future__ import annotations

import asyncio
import tomllib
import uuid
from collections.abc import Mapping
from pathlib import Path

import grpc
import pytest

from gathering.gateway.v1 import auth_pb2, auth_service_pb2
from gathering.gateway.v1.auth_service_pb2_grpc import AuthServiceStub
from gathering_mesh.tokens import ACTOR_HEADER
from tests.e2e.mesh import SERVICES, LocalMesh
from tests.e2e.rpcs import OPTIONS, Answer, Metadata, Rpc, all_rpcs
from tests.e2e.tenants import Tenant, logged_in
from tests.e2e.test_access import actor_token, bearer, own_port

TABLE: dict[str, list[str]] = tomllib.loads(
    Path(__file__).with_name("access.toml").read_text(encoding="utf-8")
)
RPCS = all_rpcs()
EACH = pytest.mark.parametrize("rpc", RPCS, ids=lambda rpc: rpc.name)
UNREADABLE = b"\xff\xff\xff"
PASSWORD = "correct horse battery"
# From the most rights to the fewest; each has those of the ones after it.
ROLES = ("admin", "member", "viewer")
USERS = (*ROLES, "stranger")


def let_in(answer: Answer) -> bool:
    """Tell whether the caller got past the door; a refusal of any other kind fails the test."""
    if answer.reason == "MALFORMED_REQUEST":
        return True
    assert answer.status in {"UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED"}, answer
    return False


def admitted(rpc: Rpc, role: str) -> bool:
    """Return what the table says of a user with this role."""
    groups = ("public", *ROLES[ROLES.index(role) :])
    return any(rpc.name in TABLE[group] for group in groups)


@pytest.fixture(scope="module")
def callers(mesh: LocalMesh, tenant: Tenant, other_tenant: Tenant) -> Mapping[str, Metadata]:
    """Return the metadata of each kind of caller, got as clients get it."""
    members = {role: asyncio.run(_member(mesh, tenant, role)) for role in ("member", "viewer")}
    key = asyncio.run(_narrow_key(mesh, tenant))
    return {
        "admin": tenant.headers,
        "stranger": other_tenant.headers,
        "nobody": (),
        "memory_reader": bearer(key),
    } | {role: found.headers for role, found in members.items()}


async def _member(mesh: LocalMesh, tenant: Tenant, role: str) -> Tenant:
    email = f"{uuid.uuid4().hex}@table.example"
    new = auth_service_pb2.CreateUserRequest(
        email=email, password=PASSWORD, role=auth_pb2.Role.Value(f"ROLE_{role.upper()}")
    )
    async with tenant.client() as client:
        await client.auth.CreateUser(new)
    return await asyncio.to_thread(logged_in, mesh, email, PASSWORD)


async def _narrow_key(mesh: LocalMesh, tenant: Tenant) -> str:
    new = auth_service_pb2.CreateApiKeyRequest(display_name="narrow", scopes=["memory.read"])
    async with tenant.client() as client:
        made = await client.auth.CreateApiKey(new)
    address = f"127.0.0.1:{mesh.port}"
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        stub = AuthServiceStub(channel)
        request = auth_service_pb2.ExchangeApiKeyRequest(api_key=made.secret)
        tokens: auth_service_pb2.Tokens = await stub.ExchangeApiKey(request)
    return tokens.access_token


def test_every_rpc_stands_in_the_table_once() -> None:
    """A new RPC fails here until somebody has said who may call it."""
    groups = ("public", *ROLES, "service")
    named = [name for group in groups for name in TABLE[group]]
    assert sorted(named) == sorted(rpc.name for rpc in RPCS)
    assert {*TABLE["internal"], *TABLE["memory_reader"]} <= set(named)
    assert set(TABLE) == {*groups, "internal", "memory_reader"}


@EACH
async def test_edge_lets_in_whom_the_table_names(
    rpc: Rpc, callers: Mapping[str, Metadata], edge: grpc.aio.Channel
) -> None:
    expected = {role: admitted(rpc, role) for role in ROLES}
    expected["stranger"] = expected["admin"]
    expected["nobody"] = rpc.name in TABLE["public"]
    expected["memory_reader"] = rpc.name in {*TABLE["public"], *TABLE["memory_reader"]}
    found = {
        who: let_in(await rpc.call(edge, UNREADABLE, callers[who], timeout=20)) for who in expected
    }
    assert found == expected


@EACH
async def test_service_without_a_user_is_let_in_to_what_is_internal(
    rpc: Rpc, mesh: LocalMesh
) -> None:
    part = SERVICES[0] if rpc.part == "events" else rpc.part
    metadata = ((ACTOR_HEADER, actor_token(mesh, "agent")),)
    async with own_port(mesh, part) as channel:
        answer = await rpc.call(channel, UNREADABLE, metadata, timeout=20)
    assert let_in(answer) == (rpc.name in {*TABLE["public"], *TABLE["internal"]})
