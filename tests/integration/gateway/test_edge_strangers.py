"""What strangers get at the edge: limits, refusals in one shape, request ids."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from gathering.gateway.v1 import auth_service_pb2 as pb
from gathering.gateway.v1.auth_service_pb2_grpc import AuthServiceStub
from gathering_mesh.client import peer
from gathering_mesh.errors import DomainError, ResourceExhausted
from tests.support.edge import Edge, log_in, refusal, running_edge
from tests.support.fixtures import NewDatabase
from tests.support.gateway import Gateway, bearer, running_gateway

ORIGIN = "https://app.example"
LOGIN = "/gathering.gateway.v1.AuthService/Login"
GRPC_WEB = {"content-type": "application/grpc-web+proto"}


@pytest.fixture
async def gateway(new_database: NewDatabase, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway."""
    async with running_gateway(await new_database("gateway"), tmp_path) as running:
        yield running


@pytest.fixture
async def edge(gateway: Gateway, tmp_path: Path) -> AsyncIterator[Edge]:
    """An edge before it that does not wait long for requests."""
    changes = {"headers_seconds": 1.0, "request_seconds": 2.0, "cors_origins": [ORIGIN]}
    async with running_edge(gateway, tmp_path, **changes) as running:
        yield running


def detail(answer: httpx.Response, name: str) -> dict[str, Any]:
    """Return a detail of an error."""
    found = {each["@type"].rpartition(".")[2]: each for each in answer.json()["details"]}
    chosen: dict[str, Any] = found[name]
    return chosen


def request_id(answer: httpx.Response) -> str:
    """Return the id that an error tells; its header has the same."""
    found = str(detail(answer, "ErrorInfo")["metadata"]["request_id"])
    assert answer.headers["x-request-id"] == found
    return found


async def test_who_is_limited_learns_when_to_come_again(gateway: Gateway, tmp_path: Path) -> None:
    limits = {"user_per_minute": 4, "address_per_minute": 5}
    async with running_edge(gateway, tmp_path, **limits) as edge:
        tokens = await gateway.admin()
        header = dict(bearer(tokens))
        while (answer := await edge.http.get("/v1/me", headers=header)).is_success:
            pass
        assert refusal(answer) == (429, "RATE_LIMITED")
        assert "4 a minute" in answer.json()["message"]
        assert detail(answer, "RetryInfo")["retry_delay"] == "15s"
        assert answer.headers["retry-after"] == "15"
        auth: Any = AuthServiceStub(edge.channel)
        with pytest.raises(ResourceExhausted) as caught, peer("gateway"):
            for _ in range(6):
                await auth.GetMe(pb.GetMeRequest(), metadata=bearer(tokens), timeout=20)
        assert (caught.value.reason, caught.value.retry_after) == ("RATE_LIMITED", 15.0)
        with pytest.raises(DomainError) as refused, peer("gateway"):
            for _ in range(8):
                await auth.Logout(pb.LogoutRequest(refresh_token="x"), timeout=20)
        assert (refused.value.reason, refused.value.retry_after) == ("RATE_LIMITED", 12.0)


async def test_address_that_a_client_claims_does_not_count(
    gateway: Gateway, tmp_path: Path
) -> None:
    async with running_edge(gateway, tmp_path, address_per_minute=5) as edge:
        codes = [await logged_out(edge, f"198.51.100.{number}") for number in range(8)]
    assert codes == [400] * 5 + [429] * 3


async def test_address_that_a_trusted_proxy_adds_is_what_counts(
    gateway: Gateway, tmp_path: Path
) -> None:
    async with running_edge(gateway, tmp_path, address_per_minute=3, trusted_proxies=1) as edge:
        claimed = [await logged_out(edge, f"203.0.113.{n}, 198.51.100.1") for n in range(5)]
        other = await logged_out(edge, "198.51.100.2")
    assert (claimed, other) == ([400] * 3 + [429] * 2, 400)


async def logged_out(edge: Edge, forwarded_for: str) -> int:
    """Return what a call without a token gets."""
    headers = {"x-forwarded-for": forwarded_for}
    return (await edge.http.post("/v1/auth/logout", json={}, headers=headers)).status_code


async def test_request_id_is_kept_where_its_form_is_sane_and_made_otherwise(edge: Edge) -> None:
    for sane in ("my-request.1", "x" * 128):
        answer = await edge.http.get("/v1/me", headers={"x-request-id": sane})
        assert request_id(answer) == sane
    for other in ("", "two words", '"><script>', "x" * 129, "a\tb"):
        answer = await edge.http.get("/v1/me", headers={"x-request-id": other})
        assert request_id(answer) not in {"", other}
    served = await edge.http.post("/v1/auth/login", json={}, headers={"x-request-id": "mine"})
    assert request_id(served) == "mine"


@pytest.mark.parametrize("path", ["/v1/agents/%00", "/v1/a%2fb"])
async def test_what_is_refused_before_it_has_an_id_gets_one(path: str, edge: Edge) -> None:
    answer = await edge.http.get(path)
    assert refusal(answer) == (400, "MALFORMED_REQUEST")
    assert len(request_id(answer)) == 36


async def raw(edge: Edge, *parts: bytes) -> httpx.Response:
    """Send bytes, and return the answer that comes before the connection ends."""
    host, port = httpx.URL(edge.url).host, httpx.URL(edge.url).port
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.writelines(parts)
        async with asyncio.timeout(20):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = dict(line.split(": ", 1) for line in head[1:] if line)
            body = await reader.readexactly(int(headers.get("content-length", "0")))
    finally:
        writer.close()
    return httpx.Response(int(head[0].split()[1]), headers=headers, content=body)


JSON_HEAD = b"POST /v1/auth/logout HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


@pytest.mark.parametrize(
    ("sent", "status", "reason"),
    [
        (b"GET /v1/me HTTP/1.1\r\nhost: x\r\n", 408, "DEADLINE_EXCEEDED"),
        (JSON_HEAD + b"content-length: 9\r\n\r\n{", 408, "DEADLINE_EXCEEDED"),
        (b"GET /v1/me HTTP/1.1\r\n\r\n", 400, "MALFORMED_REQUEST"),
        (b"GET /v1/me HTTP/1.0\r\n\r\n", 426, "MALFORMED_REQUEST"),
        (b"\x16\x03\x01\x02\x00nonsense\r\n\r\n", 400, "MALFORMED_REQUEST"),
        (b"GET /v1/me HTTP/1.1\r\nhost: x\r\na: b\0c\r\n\r\n", 400, "MALFORMED_REQUEST"),
        (JSON_HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\n{}", 400, "MALFORMED_REQUEST"),
        (JSON_HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n", 400, "MALFORMED_REQUEST"),
        (b"GET /v1/me HTTP/1.1\r\nhost: x\r\na_b: c\r\n\r\n", 400, "MALFORMED_REQUEST"),
    ],
)  # fmt: skip
async def test_bytes_that_are_no_request_are_refused_in_words(
    sent: bytes, status: int, reason: str, edge: Edge
) -> None:
    answer = await raw(edge, sent)
    assert refusal(answer) == (status, reason)
    assert request_id(answer)


async def test_call_by_grpc_whose_message_does_not_come_is_ended_in_words(edge: Edge) -> None:
    call: Any = edge.channel.stream_unary(LOGIN)
    with pytest.raises(DomainError) as caught, peer("gateway"):
        await call(timeout=20)  # nothing is written
    assert caught.value.reason == "DEADLINE_EXCEEDED"
    assert "2 s for all" in caught.value.message


@pytest.mark.parametrize(
    ("name", "value"),
    [("c*q", "x"), ("x-a-bin", "$$$"), ("grpc-timeout", "soon"), ("grpc-encoding", "snappy")],
)
async def test_header_that_grpc_does_not_take_is_no_fault(
    name: str, value: str, edge: Edge
) -> None:
    answer = await edge.http.post("/v1/auth/logout", json={}, headers={name: value})
    assert refusal(answer) == (400, "INVALID_FIELD")


async def test_header_flood_is_refused_with_the_limit(edge: Edge) -> None:
    floods: tuple[dict[str, str], ...] = (
        {"x-large": "x" * 70_000},
        {f"x-{number}": "x" for number in range(150)},
    )
    for headers in floods:
        answer = await edge.http.get("/v1/me", headers=headers)
        assert refusal(answer) == (431, "MESSAGE_TOO_LARGE")
        assert "60 KiB and 100 headers" in answer.json()["message"]
    target = b"GET /v1/agents/" + b"x" * 100_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n"
    assert refusal(await raw(edge, target))[0] == 431


async def test_header_flood_by_grpc_ends_itself_alone(edge: Edge, gateway: Gateway) -> None:
    tokens = await gateway.admin()
    auth: Any = AuthServiceStub(edge.channel)
    floods = ((("x-large", "x" * 70_000),), tuple((f"x-{number}", "x") for number in range(150)))
    for flood in floods:
        with pytest.raises(grpc.aio.AioRpcError):
            await auth.GetMe(pb.GetMeRequest(), metadata=(*bearer(tokens), *flood), timeout=20)
        assert await auth.GetMe(pb.GetMeRequest(), metadata=bearer(tokens), timeout=20)


async def test_headers_up_to_the_limit_pass_to_the_service(edge: Edge, gateway: Gateway) -> None:
    header, _ = await log_in(edge, gateway)
    for size in (10_000, 20_000, 58_000):
        answer = await edge.http.get("/v1/me", headers={**header, "x-large": "x" * size})
        assert answer.status_code == 200, answer.text


async def test_body_of_forty_megabytes_gets_an_answer_and_no_reset(
    edge: Edge, gateway: Gateway
) -> None:
    header, _ = await log_in(edge, gateway)
    answer = await edge.http.post("/v1/api-keys", headers=header, content=b"x" * 40_000_000)
    assert refusal(answer) == (413, "MESSAGE_TOO_LARGE")
    assert "at most 4194304" in answer.json()["message"]
    assert request_id(answer)


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/v1/auth/login", {"content-type": "text/plain"}),
        ("/v1/auth/login", {"content-type": "application/x-www-form-urlencoded"}),
        ("/v1/auth/login", {"content-type": "application/json", "content-encoding": "gzip"}),
        (LOGIN, {"content-type": "application/json", "connect-protocol-version": "1"}),
        (LOGIN, {"content-type": "application/proto", "connect-protocol-version": "1"}),
        (LOGIN, {}),
    ],
)
async def test_body_of_another_type_is_refused_with_what_is_taken(
    path: str, headers: dict[str, str], edge: Edge
) -> None:
    answer = await edge.http.post(path, headers=headers, content=b"{}")
    assert refusal(answer) == (415, "MALFORMED_REQUEST")
    assert "application/" in answer.json()["message"]


async def test_json_with_a_charset_or_without_a_type_is_taken(edge: Edge) -> None:
    for headers in ({"content-type": "Application/JSON; charset=utf-8"}, {}):
        answer = await edge.http.post("/v1/auth/logout", headers=headers, content=b"{}")
        assert refusal(answer) == (400, "INVALID_FIELD")


@pytest.mark.parametrize(
    ("body", "path", "field"),
    [
        (b'{"email": 5}', "/v1/auth/login", "email"),
        (b'{"role": "KING"}', "/v1/users", "role"),
        (b'{"display_name": {}}', "/v1/api-keys", "display_name"),
        (b'{"time_to_live": "soon"}', "/v1/api-keys", "time_to_live"),
    ],
)
async def test_value_of_another_type_is_refused_by_its_field(
    body: bytes, path: str, field: str, edge: Edge, gateway: Gateway
) -> None:
    header, _ = await log_in(edge, gateway)
    answer = await edge.http.post(path, headers=header, content=body)
    assert refusal(answer) == (400, "MALFORMED_REQUEST")
    (violation,) = detail(answer, "BadRequest")["field_violations"]
    assert violation["field"] == field
    assert violation["description"]
    assert "x-gathering-field-in-message" not in answer.headers


async def test_syntax_errors_name_no_field(edge: Edge) -> None:
    for body in (b"{", b'{"email": "a: b"]', b'{"email":\xff}', b"[" * 10_000, b'{"a":' * 10_000):
        answer = await edge.http.post("/v1/auth/login", content=body)
        assert refusal(answer) == (400, "MALFORMED_REQUEST")
        assert len(answer.json()["details"]) == 1


async def test_query_of_another_type_is_refused_by_its_field(edge: Edge, gateway: Gateway) -> None:
    header, _ = await log_in(edge, gateway)
    for query, field in (("page_size=many", "page_size"), ("nothing=1", "nothing")):
        answer = await edge.http.get(f"/v1/users?{query}", headers=header)
        assert refusal(answer) == (400, "MALFORMED_REQUEST")
        assert detail(answer, "BadRequest")["field_violations"][0]["field"] == field


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        (GRPC_WEB, b"", "3"),
        (GRPC_WEB, b"\0\0\0\0\x09ab", "3"),
        (GRPC_WEB, b"\0\xff\xff\xff\xffab", "8"),
        (GRPC_WEB, b"\0\0\0\0\x03\xff\xff\xff", "3"),
        ({"content-type": "application/grpc-web-text"}, b"$$$$", "3"),
        ({"content-type": "application/grpc-web+json"}, b"\0\0\0\0\2{}", "3"),
        ({"content-type": "application/grpc+json"}, b"\0\0\0\0\2{}", "3"),
    ],
)
async def test_body_that_is_no_call_gets_a_status_of_grpc(
    headers: dict[str, str], body: bytes, status: str, edge: Edge
) -> None:
    answer = await edge.http.post(LOGIN, headers=headers, content=body)
    assert answer.status_code == 200
    assert answer.headers["grpc-status"] == status
    assert answer.headers["grpc-message"]


async def test_refusals_of_the_edge_have_details_in_grpc_web(edge: Edge) -> None:
    call = "/gathering.gateway.v1.AuthService/GetMe"
    answer = await edge.http.post(call, headers=GRPC_WEB, content=b"\0\0\0\0\0")
    assert answer.headers["grpc-status"] == "16"
    details = answer.headers["grpc-status-details-bin"]
    assert b"TOKEN_MISSING" in base64.b64decode(details + "=" * (-len(details) % 4))


async def test_pages_of_other_origins_get_no_permission(edge: Edge) -> None:
    ask = {"access-control-request-method": "POST", "origin": "https://evil.example"}
    answer = await edge.http.options("/v1/auth/login", headers=ask)
    assert "access-control-allow-origin" not in answer.headers
    answer = await edge.http.post(LOGIN, headers={**GRPC_WEB, "origin": ORIGIN}, content=b"")
    exposed = answer.headers["access-control-expose-headers"]
    for name in ("grpc-status", "grpc-message", "grpc-status-details-bin", "retry-after"):
        assert name in exposed
    assert answer.headers["access-control-allow-origin"] == ORIGIN
