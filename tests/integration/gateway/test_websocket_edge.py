"""The WebSocket through the real Envoy: where the token may stand, and what is refused."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from gathering.gateway.v1 import auth_service_pb2 as pb
from gathering_mesh import telemetry
from tests.support.edge import Edge, running_edge
from tests.support.fixtures import NewDatabase
from tests.support.gateway import Gateway, running_gateway
from tests.support.websockets import opened

APP = "https://app.example"
SUBSCRIBE = {"id": "1", "subscribe": {}}


@pytest.fixture
def log() -> io.StringIO:
    """Take what the gateway logs."""
    out = io.StringIO()
    telemetry.configure("gateway", "debug", as_json=True, stream=out)
    return out


@pytest.fixture
async def gateway(
    new_database: NewDatabase, tmp_path: Path, log: io.StringIO
) -> AsyncIterator[Gateway]:
    """A gateway."""
    async with running_gateway(await new_database("gateway"), tmp_path) as running:
        yield running


@pytest.fixture
async def edge(gateway: Gateway, tmp_path: Path) -> AsyncIterator[Edge]:
    """An edge before it, which writes an access log."""
    async with running_edge(gateway, tmp_path, cors_origins=[APP], access_log=True) as running:
        yield running


def address(edge: Edge) -> str:
    """Return where the edge listens."""
    return edge.url.removeprefix("http://")


async def refused(edge: Edge, token: str, **options: Any) -> tuple[int, str]:
    """Return status and body of a handshake that must fail."""
    with pytest.raises(InvalidStatus) as caught:
        async with opened(address(edge), token, **options):
            pass
    answer = caught.value.response
    return answer.status_code, bytes(answer.body or b"").decode()


async def test_token_in_header_query_or_subprotocol_opens_and_is_not_logged(
    edge: Edge, gateway: Gateway, log: io.StringIO
) -> None:
    tokens: pb.Tokens = await gateway.admin()
    token = tokens.access_token
    ways: list[dict[str, Any]] = [
        {"token": token},
        {"token": "", "query": f"?access_token={token}"},
        {"token": "", "subprotocols": ["gathering.v1", f"bearer.{token}"]},
        {"token": token, "headers": {"origin": APP}},
    ]
    for way in ways:
        async with opened(address(edge), **way) as client:
            chosen = "gathering.v1" if "subprotocols" in way else None
            assert client.connection.subprotocol == chosen
            await client.send(SUBSCRIBE)
            assert "checkpoint" in (await client.receive())["message"]["subscribe"]
    signature = token.rpartition(".")[2]
    assert "websocket ended" in log.getvalue()
    assert signature not in log.getvalue()
    edge.process.terminate()  # it writes its log at the end
    await edge.process.wait()
    written = edge.log.read_text()
    assert '"path":"/ws"' in written
    assert signature not in written


async def test_handshake_without_good_token_is_refused(edge: Edge, gateway: Gateway) -> None:
    tokens: pb.Tokens = await gateway.admin()
    status, body = await refused(edge, "")
    assert (status, "TOKEN_MISSING" in body) == (401, True)
    forged = tokens.access_token[:-8] + "AAAAAAAA"
    for way in (
        {"token": forged},
        {"token": "", "query": f"?access_token={forged}"},
        {"token": "", "subprotocols": ["gathering.v1", f"bearer.{forged}"]},
    ):
        status, body = await refused(edge, **way)
        assert (status, "TOKEN_INVALID" in body) == (401, True), way


async def test_query_token_opens_nothing_but_the_websocket(edge: Edge, gateway: Gateway) -> None:
    tokens: pb.Tokens = await gateway.admin()
    answer = await edge.http.get("/v1/me", params={"access_token": tokens.access_token})
    assert answer.status_code in {400, 401}, answer.text


async def test_page_of_another_origin_is_refused(edge: Edge, gateway: Gateway) -> None:
    tokens: pb.Tokens = await gateway.admin()
    for origin in ("https://evil.example", f"{APP}.evil.example", "null", "https://appXexample"):
        status, _ = await refused(edge, tokens.access_token, headers={"origin": origin})
        assert status == 403, origin


async def test_plain_request_is_not_taken_for_a_websocket(edge: Edge, gateway: Gateway) -> None:
    tokens: pb.Tokens = await gateway.admin()
    headers = {"authorization": f"Bearer {tokens.access_token}"}
    assert (await edge.http.get("/ws", headers=headers)).status_code == 404
    assert (await edge.http.get("/ws")).status_code == 401
