"""Bad input by WebSocket and gRPC-Web: a refusal that says what is wrong, and no fault of ours."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from websockets.exceptions import ConnectionClosed

from gathering.agent.v1 import agent_pb2, agent_service_pb2, session_service_pb2
from gathering.gateway.v1 import event_service_pb2
from tests.e2e.makers import Maker
from tests.e2e.mesh import LocalMesh
from tests.e2e.tenants import Tenant
from tests.e2e.test_bad_rest import violations
from tests.support.websockets import Client, opened

NOBODY = "ses_" + "0" * 32
INVALID = code_pb2.INVALID_ARGUMENT
DEEP = '{"a":' * 10_000 + "1" + "}" * 10_000


async def works(client: Client) -> None:
    """Check that a connection serves a call."""
    await client.send({"id": "last", "subscribe": {}})
    assert "message" in await client.answer("last")


def frame(**call: Any) -> str:
    """Return a frame."""
    return json.dumps({"id": "1", **call})


@pytest.mark.parametrize(
    ("sent", "code", "told"),
    [
        (b"\x00\x01", INVALID, ("", "binary")),
        ("nonsense", INVALID, ("", "no JSON")),
        ("[" * 10_000, INVALID, ("", "no JSON")),
        (DEEP, INVALID, ("", "")),
        (f'{{"id": "1", "subscribe": {DEEP}}}', INVALID, ("", "")),
        (
            f'{{"id": "1", "start_turn": {{"result_schema": {DEEP}}}}}',
            INVALID, ("", ""),
        ),
        ("x" * 1_100_000, code_pb2.RESOURCE_EXHAUSTED, ("", "1048576 bytes")),
        (frame(), INVALID, ("", "subscribe, start_turn")),
        (frame(no_such_call={}), INVALID, ("no_such_call", "no_such_call")),
        (frame(subscribe={"nothing": 1}), INVALID, ("nothing", "nothing")),
        (frame(subscribe={"filter": {"types": "x"}}), INVALID, ("filter.types", "[]")),
        (frame(subscribe={"cursor": 5}), INVALID, ("cursor", "string")),
        (frame(subscribe={"cursor": "rubbish"}), INVALID, ("", "cursor")),
        (
            frame(subscribe={"filter": {"types": ["x"] * 101}}),
            INVALID, ("filter.types", "100"),
        ),
        (frame(start_turn={"session_id": "rubbish"}), INVALID, ("session_id", "ses_")),
        (
            frame(start_turn={"session_id": NOBODY, "text": "x" * 100_001}),
            INVALID, ("text", "100000"),
        ),
        (frame(stream_chat={"session_id": NOBODY}), INVALID, ("text", "")),
        (frame(start_turn={"session_id": NOBODY, "text": "x"}), code_pb2.NOT_FOUND, ("", "")),
    ],
    ids=range(18),
)  # fmt: skip
async def test_frame_that_cannot_be_used_is_refused_and_the_connection_goes_on(
    sent: str | bytes, code: int, told: tuple[str, str], mesh: LocalMesh, tenant: Tenant
) -> None:
    field, word = told
    async with opened(f"127.0.0.1:{mesh.port}", tenant.tokens.access_token) as client:
        await client.connection.send(sent)
        error = (await client.receive())["error"]
        assert error["code"] == code, error
        assert word in error["message"] + json.dumps(violations(error)), error
        assert not field or field in violations(error), error
        await works(client)


@pytest.mark.parametrize(
    ("sent", "codes"), [("x" * 10_000_000, {1009, None}), (b'{"id": "\xff"}', {1007})]
)
async def test_message_that_breaks_the_protocol_ends_its_connection_alone(
    sent: str | bytes, codes: set[int | None], mesh: LocalMesh, tenant: Tenant
) -> None:
    """None: who still sends when the connection ends may see it cut, without the reason."""
    address, token = f"127.0.0.1:{mesh.port}", tenant.tokens.access_token
    async with opened(address, token) as other:
        with pytest.raises(ConnectionClosed) as caught:
            async with opened(address, token) as client:
                await client.connection.send(sent, text=True)
                await client.receive()
        assert (caught.value.rcvd and caught.value.rcvd.code) in codes
        await works(other)


@pytest.mark.parametrize(
    ("rpc", "request_", "field", "word"),
    [
        (
            "agent.v1.AgentService/CreateAgent",
            agent_service_pb2.CreateAgentRequest(agent=agent_pb2.Agent(name="x" * 101)),
            "agent.name", "100",
        ),
        (
            "agent.v1.AgentService/CreateAgent",
            agent_service_pb2.CreateAgentRequest(
                agent=agent_pb2.Agent(name="x", persona={"communication_style": 99})  # type: ignore[arg-type]
            ),
            "agent.persona.communication_style", "",
        ),
        (
            "agent.v1.SessionService/GetSession",
            session_service_pb2.GetSessionRequest(session_id="rubbish"),
            "session_id", "ses_",
        ),
        (
            "agent.v1.SessionService/ListSessions",
            session_service_pb2.ListSessionsRequest(page_size=201),
            "page_size", "200",
        ),
        (
            "gateway.v1.EventService/Subscribe",
            event_service_pb2.SubscribeRequest(cursor="rubbish"),
            "", "cursor",
        ),
        ("agent.v1.SessionService/GetSession", b"\xff\xff\xff", "", ""),
        ("agent.v1.SessionService/GetSession", b"\x0a\x02\xff\xfe", "", ""),
        ("agent.v1.SessionService/GetSession", b"\x0b" * 10_000, "", ""),
    ],
    ids=range(8),
)  # fmt: skip
async def test_message_by_grpc_web_is_refused_by_name(
    rpc: str, request_: Message | bytes, field: str, word: str, http: httpx.AsyncClient
) -> None:
    data = request_ if isinstance(request_, bytes) else request_.SerializeToString()
    status = await web_call(http, rpc, data)
    assert status.code == code_pb2.INVALID_ARGUMENT, status
    bad = error_details_pb2.BadRequest()
    for detail in status.details:
        detail.Unpack(bad)
    found = {each.field: each.description for each in bad.field_violations}
    assert not field or field in found, status
    assert word in status.message + str(found), status


async def test_message_by_grpc_web_that_is_too_large_is_refused(
    http: httpx.AsyncClient, maker: Maker
) -> None:
    request = session_service_pb2.GetSessionRequest(session_id=await maker.session())
    data = request.SerializeToString() + b"\xa2\x06" + b"\x80\x80\x80\x05" + b"x" * 10_485_760
    status = await web_call(http, "agent.v1.SessionService/GetSession", data)
    assert status.code == code_pb2.RESOURCE_EXHAUSTED, status


async def web_call(http: httpx.AsyncClient, rpc: str, data: bytes) -> status_pb2.Status:
    """Return the refusal of a call; it comes in the headers, for there is no answer before it."""
    answer = await http.post(
        f"/gathering.{rpc}",
        headers={"content-type": "application/grpc-web+proto"},
        content=b"\0" + len(data).to_bytes(4, "big") + data,
    )
    assert answer.status_code == 200, answer.text
    end = dict(answer.headers)
    for line in answer.content[5:].decode().splitlines():
        name, _, value = line.partition(":")
        end[name.lower()] = value.strip()
    details = end.get("grpc-status-details-bin", "")
    found = status_pb2.Status.FromString(base64.b64decode(details + "=" * (-len(details) % 4)))
    found.code = int(end["grpc-status"])
    return found
