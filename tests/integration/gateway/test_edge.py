"""The whole way in: the real Envoy before the real gateway."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import jwt
import pytest

from gathering.gateway.v1 import auth_service_pb2 as pb
from gathering.gateway.v1.auth_service_pb2_grpc import AuthServiceStub
from gathering_gateway.admin.app import rotate_keys
from gathering_gateway.convert_contract import read_contract
from gathering_gateway.envoy.models import EdgeSettings
from gathering_mesh.client import peer
from gathering_mesh.errors import DomainError
from tests.support.edge import Edge, log_in, refusal, running_edge, validate
from tests.support.fixtures import NewDatabase
from tests.support.gateway import PASSWORD, Gateway, bearer, outcome, running_gateway

PARTS = {
    name: f"127.0.0.1:{n}"
    for n, name in enumerate(("agent", "gateway", "memory", "orchestrator", "skills"), 1)
}
EVENT_STREAM = {"accept": "text/event-stream"}


@pytest.fixture
async def gateway(new_database: NewDatabase, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway whose new keys sign soon."""
    async with running_gateway(await new_database("gateway"), tmp_path) as running:
        yield running


@pytest.fixture
async def edge(gateway: Gateway, tmp_path: Path) -> AsyncIterator[Edge]:
    """An edge before it."""
    async with running_edge(gateway, tmp_path, cors_origins=["https://app.example"]) as running:
        yield running


async def test_configuration_is_valid_in_all_its_variants(tmp_path: Path) -> None:
    plain = EdgeSettings(parts=PARTS, gateway_http="127.0.0.1:6")
    full = EdgeSettings(
        parts={**PARTS, "agent": "agent.example:7000"},
        gateway_http="gateway.example:8000",
        cors_origins=("*",),
        user_per_minute=0,
        address_per_minute=20,
        tls_certificate=tmp_path / "edge.pem",
        tls_key=tmp_path / "edge.key",
        admin_socket=tmp_path / "admin.sock",
        access_log=True,
    )
    for settings in (plain, full, plain.model_copy(update={"admin_port": 0})):
        code, output = await validate(settings, tmp_path)
        assert code == 0, output
        assert "deprecated" not in output.lower()


async def test_rest_logs_in_refreshes_uses_keys_and_logs_out(edge: Edge, gateway: Gateway) -> None:
    header, tokens = await log_in(edge, gateway)
    me = (await edge.http.get("/v1/me", headers=header)).json()
    assert me == tokens["user"]
    assert me["role"] == "ROLE_ADMIN"
    key = (await edge.http.post(
        "/v1/api-keys", headers=header, json={"display_name": "ci", "time_to_live": "3600s"}
    )).json()  # fmt: skip
    by_key = (await edge.http.post("/v1/auth/api-key", json={"api_key": key["secret"]})).json()
    keyed = {"authorization": f"Bearer {by_key['access_token']}"}
    assert (await edge.http.get("/v1/me", headers=keyed)).json() == me
    listed = (await edge.http.get("/v1/api-keys", headers=header, params={"page_size": 1})).json()
    assert listed["api_keys"][0].pop("last_use_time")
    assert listed == {"api_keys": [key["api_key"]], "next_page_token": ""}
    revoked = await edge.http.post(
        f"/v1/api-keys/{key['api_key']['api_key_id']}:revoke", headers=header, json={}
    )
    assert revoked.json()["revoke_time"]
    first = {"refresh_token": tokens["refresh_token"]}
    second = (await edge.http.post("/v1/auth/refresh", json=first)).json()
    assert (await edge.http.post("/v1/auth/logout", json=first)).json() == {}
    ended = {"refresh_token": second["refresh_token"]}
    answer = await edge.http.post("/v1/auth/refresh", json=ended)
    assert refusal(answer) == (401, "CREDENTIALS_REVOKED")


async def test_grpc_and_rest_are_one_port(edge: Edge, gateway: Gateway) -> None:
    email = await gateway.tenant()
    auth: Any = AuthServiceStub(edge.channel)
    tokens = await auth.Login(pb.LoginRequest(email=email, password=PASSWORD), timeout=20)
    me = await auth.GetMe(pb.GetMeRequest(), metadata=bearer(tokens), timeout=20)
    assert me == tokens.user
    assert await outcome(auth.GetMe(pb.GetMeRequest(), timeout=20)) == "TOKEN_MISSING"
    wrong = auth.GetMe(pb.GetMeRequest(), metadata=bearer("x.y.z"), timeout=20)
    assert await outcome(wrong) == "TOKEN_INVALID"


async def test_grpc_web_reaches_the_services(edge: Edge, gateway: Gateway) -> None:
    request = pb.LoginRequest(email=await gateway.tenant(), password=PASSWORD).SerializeToString()
    answer = await edge.http.post(
        "/gathering.gateway.v1.AuthService/Login",
        content=b"\0" + len(request).to_bytes(4, "big") + request,
        headers={"content-type": "application/grpc-web+proto", "origin": "https://app.example"},
    )
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    size = int.from_bytes(answer.content[1:5], "big")
    assert pb.Tokens.FromString(answer.content[5 : 5 + size]).access_token
    assert b"grpc-status:0" in answer.content[5 + size :]


async def test_wrong_tokens_are_refused_at_the_edge(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    database = await new_database("gateway")
    async with (
        running_gateway(database, tmp_path, access_token_seconds=1) as gateway,
        running_edge(gateway, tmp_path) as edge,
    ):
        header, tokens = await log_in(edge, gateway)
        cut = tokens["access_token"][:-3]
        wrong = {"Bearer x": "TOKEN_INVALID", f"Bearer {cut}": "TOKEN_INVALID",
                 f"Bearer {gateway.actor('agent')}": "TOKEN_INVALID",
                 "Basic eDp5": "TOKEN_MISSING"}  # fmt: skip
        for value, reason in wrong.items():
            answer = await edge.http.get("/v1/me", headers={"authorization": value})
            assert refusal(answer) == (401, reason), value
        assert refusal(await edge.http.get("/v1/me")) == (401, "TOKEN_MISSING")
        end = time.monotonic() + 20
        while (answer := await edge.http.get("/v1/me", headers=header)).status_code == 200:
            assert time.monotonic() < end
            await asyncio.sleep(0.1)
        assert refusal(answer) == (401, "TOKEN_EXPIRED")


async def test_every_rpc_asks_for_a_token_and_internal_ones_do_not_exist(
    gateway: Gateway, tmp_path: Path
) -> None:
    nowhere = dict.fromkeys(PARTS, "127.0.0.1:1")
    own = {"gateway": f"127.0.0.1:{gateway.app.server.port}"}
    async with running_edge(gateway, tmp_path, parts={**nowhere, **own}) as edge:
        token = (await gateway.admin()).access_token
        for rpc in read_contract().rpcs():
            without = await status(edge, rpc.grpc_path)
            if not rpc.routes:
                with_token = await status(edge, rpc.grpc_path, token, gateway.actor("agent"))
                assert without is with_token is grpc.StatusCode.UNIMPLEMENTED, rpc
            elif not rpc.public:
                assert without is grpc.StatusCode.UNAUTHENTICATED, rpc
            for route in rpc.routes:
                path = "".join(
                    part if n % 2 == 0 else "x" for n, part in enumerate(split(route.path))
                )
                answer = await edge.http.request(route.verb, path, json={} if route.body else None)
                if rpc.public:
                    assert refusal(answer) in {(400, "INVALID_FIELD")}, route
                else:
                    assert refusal(answer) == (401, "TOKEN_MISSING"), route


def split(path: str) -> list[str]:
    return path.replace("{", "\0").replace("}", "\0").split("\0")


async def status(edge: Edge, path: str, token: str = "", actor: str = "") -> grpc.StatusCode:
    call: Any = edge.channel.unary_unary(path)
    try:
        await call(b"", metadata=bearer(token, actor), timeout=20)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_actor_tokens_of_clients_do_not_reach_the_services(
    edge: Edge, gateway: Gateway
) -> None:
    tokens = await gateway.admin()
    auth: Any = AuthServiceStub(edge.channel)
    broken = auth.GetMe(pb.GetMeRequest(), metadata=bearer(tokens, "not a token"), timeout=20)
    assert await outcome(broken) == "OK", "the header was dropped"
    direct = gateway.auth.GetMe(pb.GetMeRequest(), metadata=bearer(tokens, "not a token"))
    assert await outcome(direct) == "TOKEN_INVALID", "it would have been looked at"


async def test_bad_requests_get_errors_as_json(edge: Edge, gateway: Gateway) -> None:
    header, _ = await log_in(edge, gateway)
    http, path = edge.http, "/v1/auth/login"
    for body in (b"{", b"[1]", b'"x"', b'{"email": 5}', b'{"email": {}}', b"\xff\xfe"):
        answer = await http.post(path, content=body)
        assert refusal(answer) == (400, "MALFORMED_REQUEST"), body
    for params in ({"page_size": "x"}, {"unknown": "1"}, {"page_size.x": "1"}):
        answer = await http.get("/v1/users", headers=header, params=params)
        assert refusal(answer) == (400, "MALFORMED_REQUEST"), params
    for nothing in ("/", "/v1", "/v1/nothing", "/v1/users/x/y", "/v1/me/", "/v2/me", "/admin"):
        answer = await http.get(nothing, headers=header)
        assert refusal(answer) == (404, "NOT_FOUND"), nothing
    for bad in ("/v1/users/%00", "/v1/users%2f..", "/v1/%zz"):
        answer = await http.get(bad, headers=header)
        assert refusal(answer) in {(400, "MALFORMED_REQUEST"), (404, "NOT_FOUND")}, bad
    upgrade = {**header, "connection": "upgrade", "upgrade": "websocket"}
    assert refusal(await http.get("/v1/me", headers=upgrade)) == (403, "NOT_ALLOWED")
    answer = await http.delete("/v1/me", headers=header)
    assert refusal(answer) == (405, "NOT_FOUND")
    assert answer.headers["allow"] == "GET"
    large = json.dumps({"email": "x" * 70_000})
    assert refusal(await http.post(path, content=large)) == (413, "MESSAGE_TOO_LARGE")
    for size in (4_300_000, 15_000_000):
        large = json.dumps({"display_name": "x" * size})
        answer = await http.post("/v1/api-keys", headers=header, content=large)
        assert refusal(answer) == (413, "MESSAGE_TOO_LARGE")


async def test_violations_name_their_fields(edge: Edge, gateway: Gateway) -> None:
    header, _ = await log_in(edge, gateway)
    answer = await edge.http.post("/v1/users", headers=header, json={"email": "x", "unknown": 1})
    assert refusal(answer) == (400, "INVALID_FIELD")
    details = answer.json()["details"]
    bad = next(d for d in details if d["@type"].endswith("google.rpc.BadRequest"))
    assert {v["field"] for v in bad["field_violations"]} == {"email", "password", "role"}
    answer = await edge.http.get("/v1/events", headers=header, params={"cursor": "x"})
    assert refusal(answer) == (400, "INVALID_CURSOR")


async def test_limited_login_says_when_to_come_again(edge: Edge, gateway: Gateway) -> None:
    body = {"email": await gateway.tenant(), "password": "wrong"}
    for _ in range(10):
        answer = await edge.http.post("/v1/auth/login", json=body)
        assert refusal(answer) == (401, "CREDENTIALS_INVALID")
    answer = await edge.http.post("/v1/auth/login", json=body)
    assert refusal(answer) == (429, "RATE_LIMITED")
    retry = next(d for d in answer.json()["details"] if d["@type"].endswith("RetryInfo"))
    assert float(retry["retry_delay"].removesuffix("s")) > 800


async def test_service_that_is_away_is_unavailable_in_json(
    gateway: Gateway, tmp_path: Path
) -> None:
    parts = {"gateway": f"127.0.0.1:{gateway.app.server.port}", "agent": "127.0.0.1:1"}
    async with running_edge(gateway, tmp_path, parts=parts) as edge:
        header, _ = await log_in(edge, gateway)
        answer = await edge.http.get("/v1/agents", headers=header)
        assert refusal(answer) == (503, "UNAVAILABLE")


async def test_tokens_that_cannot_be_verified_are_not_called_invalid(
    gateway: Gateway, tmp_path: Path
) -> None:
    async with running_edge(gateway, tmp_path, gateway_http="127.0.0.1:1") as edge:
        header, tokens = await log_in(edge, gateway)
        assert refusal(await edge.http.get("/v1/me", headers=header)) == (503, "UNAVAILABLE")
        auth: Any = AuthServiceStub(edge.channel)
        call = auth.GetMe(pb.GetMeRequest(), metadata=bearer(tokens["access_token"]), timeout=20)
        assert await outcome(call) == "UNAVAILABLE"


async def frames(answer: httpx.Response, *, events: bool) -> AsyncIterator[dict[str, Any]]:
    """Yield the frames of a stream, as server-sent events or as lines."""
    async for line in answer.aiter_lines():
        if line:
            assert line.startswith("data: ") == events
            yield json.loads(line.removeprefix("data: "))


@pytest.mark.parametrize("events", [True, False])
async def test_stream_by_rest_ends_with_a_reconnect_frame_and_is_resumed(
    edge: Edge, gateway: Gateway, events: bool
) -> None:
    header, tokens = await log_in(edge, gateway)
    accepted = {**header, **(EVENT_STREAM if events else {})}
    path, cursor = "/v1/events:subscribe", "start"
    async with edge.http.stream("GET", path, headers=accepted, params={"cursor": cursor}) as answer:
        kind = "text/event-stream" if events else "application/json"
        assert answer.headers["content-type"] == kind
        seen = frames(answer, events=events)
        async for frame in seen:
            if "event" in frame and frame["event"]["event"]["type"] == "user_logged_in":
                cursor = frame["event"]["cursor"]
                break
        await gateway.log_in(tokens["user"]["email"])
        live = await anext(f async for f in seen if "event" in f)
        assert live["event"]["event"]["user_logged_in"]["method"] == "password"
        stopping = asyncio.create_task(gateway.app.server.stop(5))
        last = [frame async for frame in seen][-1]
        assert last["reconnect"]["reason"] == "draining"
        await stopping


async def test_stream_is_resumed_by_rest_without_loss_or_repeat(
    edge: Edge, gateway: Gateway
) -> None:
    header, tokens = await log_in(edge, gateway)
    for _ in range(5):
        await gateway.log_in(tokens["user"]["email"])
    ids: list[str] = []
    cursor = "start"
    while len(ids) < 7:  # the user, six logins
        async with edge.http.stream(
            "GET", "/v1/events:subscribe", headers={**header, **EVENT_STREAM},
            params={"cursor": cursor, "filter.sources": "gateway"},
        ) as answer:  # fmt: skip
            frame = await anext(f async for f in frames(answer, events=True) if "event" in f)
            ids.append(frame["event"]["event"]["id"])
            cursor = frame["event"]["cursor"]
    assert len(set(ids)) == 7


async def test_stream_that_is_refused_says_so(edge: Edge, gateway: Gateway) -> None:
    header, _ = await log_in(edge, gateway)
    for accept in (EVENT_STREAM, {}):
        answer = await edge.http.get(
            "/v1/events:subscribe", headers={**header, **accept}, params={"cursor": "x"}
        )
        assert refusal(answer) == (400, "INVALID_CURSOR")


async def test_keys_rotate_while_the_edge_runs(gateway: Gateway, edge: Edge) -> None:
    header, tokens = await log_in(edge, gateway)
    email = tokens["user"]["email"]
    key_id, _ = await rotate_keys(gateway.settings, 4.0, drop_others=False)
    end, fresh = time.monotonic() + 30, header
    while key_of(fresh) != key_id:  # all the way no token is refused
        assert time.monotonic() < end
        answer = await edge.http.post("/v1/auth/login", json={"email": email, "password": PASSWORD})
        fresh = {"authorization": f"Bearer {answer.json()['access_token']}"}
        for one in (header, fresh):
            assert (await edge.http.get("/v1/me", headers=one)).status_code == 200
        await asyncio.sleep(0.2)
    keys = (await edge.http.get("/.well-known/jwks.json")).json()["keys"]
    assert {key_of(header), key_id} == {key["kid"] for key in keys}
    await rotate_keys(gateway.settings, 0.0, drop_others=True)
    while (await edge.http.get("/v1/me", headers=fresh)).status_code == 200:
        assert time.monotonic() < end
        await asyncio.sleep(0.2)
    answer = await edge.http.post("/v1/auth/login", json={"email": email, "password": PASSWORD})
    newest = {"authorization": f"Bearer {answer.json()['access_token']}"}
    while (await edge.http.get("/v1/me", headers=newest)).status_code != 200:
        assert time.monotonic() < end
        await asyncio.sleep(0.2)


def key_of(header: dict[str, str]) -> str:
    """Return the id of the key that signed a token."""
    return str(jwt.get_unverified_header(header["authorization"].partition(" ")[2])["kid"])


async def test_browsers_of_allowed_origins_may_ask(edge: Edge) -> None:
    ask = {
        "access-control-request-method": "GET",
        "access-control-request-headers": "authorization",
    }
    allowed = await edge.http.options("/v1/me", headers={**ask, "origin": "https://app.example"})
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "https://app.example"
    assert "authorization" in allowed.headers["access-control-allow-headers"]
    other = await edge.http.options("/v1/me", headers={**ask, "origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers
    refused = await edge.http.get("/v1/me", headers={"origin": "https://app.example"})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "https://app.example"


async def test_users_and_addresses_are_limited_each_for_itself(
    gateway: Gateway, tmp_path: Path
) -> None:
    limits = {"user_per_minute": 5, "address_per_minute": 8}
    async with running_edge(gateway, tmp_path, **limits) as edge:
        one, two = await gateway.admin(), await gateway.admin()
        for tokens in (one, two):
            header = {"authorization": f"Bearer {tokens.access_token}"}
            found = [(await edge.http.get("/v1/me", headers=header)).status_code for _ in range(7)]
            assert found == [200] * 5 + [429] * 2
        answers = [await edge.http.post("/v1/auth/logout", json={}) for _ in range(10)]
        assert [a.status_code for a in answers] == [400] * 8 + [429] * 2
        assert refusal(answers[-1]) == (429, "RATE_LIMITED")


async def test_document_keys_and_health_need_no_token(edge: Edge) -> None:
    document = await edge.http.get("/openapi.json")
    assert document.json()["openapi"] == "3.1.0"
    again = await edge.http.get(
        "/openapi.json", headers={"if-none-match": document.headers["etag"]}
    )
    assert again.status_code == 304
    assert (await edge.http.get("/healthz")).status_code == 200
    assert len((await edge.http.get("/.well-known/jwks.json")).json()["keys"]) == 1


async def test_large_answers_and_bodies_up_to_the_limit_pass(edge: Edge, gateway: Gateway) -> None:
    header, _ = await log_in(edge, gateway)
    padded = {"display_name": "x", "request_id": "", "unknown": "x" * 3_900_000}
    answer = await edge.http.post("/v1/api-keys", headers=header, json=padded)
    assert answer.status_code == 200
    direct: Any = AuthServiceStub(edge.channel)
    large = pb.LogoutRequest(refresh_token="x" * 4_500_000)
    with pytest.raises(DomainError) as caught, peer("gateway"):
        await direct.Logout(large, timeout=20)
    assert caught.value.reason == "MESSAGE_TOO_LARGE"
