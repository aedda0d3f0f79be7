"""Who is let in: nobody without a good token, at the edge and at each service's own port."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import grpc
import httpx
import jwt
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gathering.gateway.v1 import auth_service_pb2
from gathering_mesh.keys import ALGORITHM, SigningKey
from gathering_mesh.tokens import ACTOR_HEADER, ActorSigner, user_claims
from tests.e2e.mesh import SERVICES, LocalMesh
from tests.e2e.recipes import RECIPES
from tests.e2e.rpcs import OPTIONS, Answer, Metadata, Rpc, all_rpcs
from tests.e2e.tenants import Tenant

RPCS = all_rpcs()
CLOSED = [rpc for rpc in RPCS if not rpc.rule.public]
BY_NAME = {rpc.name: rpc for rpc in RPCS}
NOT_LET_IN = {"UNAUTHENTICATED"}
# What the edge answers about an RPC that it does not know is as good as a refusal.
NOT_THERE = {"UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED", "NOT_FOUND"}


def bearer(token: str) -> Metadata:
    """Return the metadata that carries a token."""
    return (("authorization", f"Bearer {token}"),)


@cache
def user_key(mesh: LocalMesh) -> SigningKey:
    """Return the key that signs users' tokens of the mesh."""
    newest = max((mesh.home.keys / "users").glob("*.pem"))
    return SigningKey.from_pem(newest.read_bytes())


def actor_token(mesh: LocalMesh, service: str) -> str:
    """Return a token that a service of the mesh would send."""
    key = SigningKey.from_pem((mesh.home.keys / f"{service}.pem").read_bytes())
    return ActorSigner(service, key, frozenset({"*"})).token()


def claims(tenant: Tenant, **changes: Any) -> dict[str, Any]:
    """Return the claims of a token of the tenant's administrator, some of them changed."""
    scopes = jwt.decode(tenant.tokens.access_token, options={"verify_signature": False})["scope"]
    good = user_claims(
        tenant=tenant.tenant_id,
        user=tenant.tokens.user.user_id,
        role="admin",
        scopes=frozenset(scopes.split()),
        lifetime=600,
    )
    return {**good, **changes}


@pytest.fixture(scope="module")
def bad_tokens(mesh: LocalMesh, tenant: Tenant) -> Mapping[str, Metadata]:
    """Return metadata that should let nobody in, by what is wrong with it."""
    key, foreign = user_key(mesh), SigningKey.generate()
    good = tenant.tokens.access_token
    head, body, signature = good.split(".")
    past = int(time.time()) - 600
    posing = SigningKey.generate()
    posed = jwt.encode(claims(tenant), posing.pem(), algorithm=ALGORITHM, headers={"kid": key.kid})
    unsigned = jwt.encode(claims(tenant), "", algorithm="none", headers={"kid": key.kid})
    return {
        "none": (),
        "empty": (("authorization", ""),),
        "not a bearer": (("authorization", f"Basic {good}"),),
        "rubbish": bearer("rubbish"),
        "cut": bearer(good[:-20]),
        "changed": bearer(f"{head}.{body[:-4]}AAAA.{signature}"),
        "expired": bearer(key.sign(claims(tenant, iat=past - 900, exp=past))),
        "other key": bearer(foreign.sign(claims(tenant))),
        "other key posing": bearer(posed),
        "unsigned": bearer(unsigned),
        "other issuer": bearer(key.sign(claims(tenant, iss="somebody"))),
        "other audience": bearer(key.sign(claims(tenant, aud="somewhere"))),
        "of a service": bearer(actor_token(mesh, "agent")),
    }


def test_a_good_token_made_here_is_good(mesh: LocalMesh, tenant: Tenant) -> None:
    """What the refusals below rest on: only the fault makes the difference."""
    answer = httpx.get(
        f"{mesh.url}/v1/me",
        headers=dict(bearer(user_key(mesh).sign(claims(tenant)))),
        trust_env=False,
    )
    assert answer.status_code == 200, answer.text


@asynccontextmanager
async def own_port(mesh: LocalMesh, part: str) -> AsyncIterator[grpc.aio.Channel]:
    """Open a channel to a service itself."""
    async with grpc.aio.insecure_channel(mesh.address(part), options=OPTIONS) as channel:
        yield channel


@pytest.mark.parametrize("rpc", CLOSED, ids=lambda rpc: rpc.name)
async def test_bad_token_is_refused_at_the_edge(
    rpc: Rpc, bad_tokens: Mapping[str, Metadata], edge: grpc.aio.Channel
) -> None:
    # Envoy answers a token for another audience with PERMISSION_DENIED (403 by REST).
    allowed = {*NOT_LET_IN, "PERMISSION_DENIED"} if rpc.for_users else NOT_THERE
    for what, metadata in bad_tokens.items():
        answer = await rpc.call(edge, rpc.request(), metadata, timeout=10)
        assert answer.status in allowed, (what, answer)


@pytest.mark.parametrize("rpc", CLOSED, ids=lambda rpc: rpc.name)
async def test_bad_token_is_refused_at_the_services_own_port(
    rpc: Rpc, mesh: LocalMesh, bad_tokens: Mapping[str, Metadata]
) -> None:
    for part in SERVICES if rpc.part == "events" else (rpc.part,):
        async with own_port(mesh, part) as channel:
            for what, metadata in bad_tokens.items():
                answer = await rpc.call(channel, rpc.request(), metadata, timeout=10)
                assert answer.status in NOT_LET_IN, (part, what, answer)
                assert answer.reason.startswith("TOKEN_"), (part, what, answer)


@pytest.mark.parametrize("rpc", [r for r in CLOSED if r.routes], ids=lambda rpc: rpc.name)
async def test_bad_token_is_refused_by_rest(
    rpc: Rpc, mesh: LocalMesh, bad_tokens: Mapping[str, Metadata]
) -> None:
    async with httpx.AsyncClient(base_url=mesh.url, trust_env=False) as http:
        for verb, path in rpc.routes:
            for what in ("none", "rubbish", "expired", "other key posing"):
                metadata = bad_tokens[what]
                for accept in ("application/json", "text/event-stream"):
                    headers = {"accept": accept, **dict(metadata)}
                    answer = await http.request(verb, _filled(path), headers=headers)
                    assert answer.status_code in {401, 403}, (what, path, answer.text)
                    assert answer.headers["content-type"].startswith("application/json")


def _filled(path: str) -> str:
    """Return a path with ids of nothing in the place of its variables."""
    filled = path
    while "{" in filled:
        head, _, rest = filled.partition("{")
        filled = head + "x_" + "0" * 32 + rest.partition("}")[2]
    return filled


@pytest.mark.parametrize("rpc", [r for r in CLOSED if not r.for_users], ids=lambda rpc: rpc.name)
async def test_rpc_of_services_is_not_for_users(
    rpc: Rpc, mesh: LocalMesh, tenant: Tenant, edge: grpc.aio.Channel
) -> None:
    smuggled = tuple((ACTOR_HEADER, actor_token(mesh, name)) for name in ("agent", "orchestrator"))
    for extra in ((), *((header,) for header in smuggled)):
        answer = await rpc.call(edge, rpc.request(), (*tenant.headers, *extra), timeout=10)
        assert answer.status in NOT_THERE, answer
    for part in SERVICES if rpc.part == "events" else (rpc.part,):
        async with own_port(mesh, part) as channel:
            answer = await rpc.call(channel, rpc.request(), tenant.headers, timeout=10)
            assert answer.status in {"PERMISSION_DENIED", "UNAUTHENTICATED"}, answer


async def test_client_cannot_pass_for_a_service(
    mesh: LocalMesh, tenant: Tenant, edge: grpc.aio.Channel, http: httpx.AsyncClient
) -> None:
    """The edge drops the header: rubbish in it does not matter there, and does at a service."""
    rpc = BY_NAME["AuthService.GetMe"]
    rubbish = (*tenant.headers, (ACTOR_HEADER, "rubbish"))
    assert (await rpc.call(edge, rpc.request(), rubbish)).status == "OK"
    async with own_port(mesh, "gateway") as channel:
        assert (await rpc.call(channel, rpc.request(), rubbish)).status == "UNAUTHENTICATED"
    assert (await http.get("/v1/me", headers=dict(rubbish))).status_code == 200


async def test_token_without_the_scope_is_refused(
    mesh: LocalMesh, tenant: Tenant, edge: grpc.aio.Channel
) -> None:
    token = user_key(mesh).sign(claims(tenant, scope="nothing.read", role="viewer"))
    for name in RECIPES:
        answer = await BY_NAME[name].call(edge, BY_NAME[name].request(), bearer(token))
        assert (answer.status, answer.reason) == ("PERMISSION_DENIED", "SCOPE_MISSING"), name


@pytest.mark.parametrize("part", SERVICES)
async def test_health_needs_no_token(part: str, mesh: LocalMesh) -> None:
    async with own_port(mesh, part) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_health_of_the_edge_and_the_document_need_no_token(mesh: LocalMesh) -> None:
    async with httpx.AsyncClient(base_url=mesh.url, trust_env=False) as http:
        for path in ("/healthz", "/openapi.json", "/.well-known/jwks.json"):
            assert (await http.get(path)).status_code == 200, path


async def test_wrong_password_is_refused_in_words(
    mesh: LocalMesh, tenant: Tenant, edge: grpc.aio.Channel
) -> None:
    rpc = BY_NAME["AuthService.Login"]
    answers: list[Answer] = [
        await rpc.call(edge, auth_service_pb2.LoginRequest(email=email, password="not this"))
        for email in (tenant.email, "nobody@nowhere.example")
    ]
    assert {(a.status, a.reason) for a in answers} == {("UNAUTHENTICATED", "CREDENTIALS_INVALID")}
    assert len({a.text for a in answers}) == 1, "the answer tells which addresses exist"
