"""The WebSocket through the whole mesh: chats, watched turns and tasks, and whose rights count."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from gathering.agent.v1 import turn_service_pb2
from gathering.agent.v1.turn_service_pb2_grpc import TurnServiceStub
from gathering.gateway.v1 import auth_service_pb2
from gathering.gateway.v1.auth_pb2 import ROLE_VIEWER
from gathering_client import Gathering, Login
from gathering_mesh.client import peer
from gathering_mesh.errors import DomainError
from tests.e2e.makers import Maker
from tests.e2e.mesh import LocalMesh
from tests.e2e.tenants import Tenant
from tests.support.gateway import bearer
from tests.support.websockets import Client, opened

_VIEWER, _PASSWORD = "viewer@doors.example", "long enough for anybody"
_ENDS = {"completed", "failed", "cancelled"}


async def whole(client: Client, call: dict[str, Any]) -> list[dict[str, Any]]:
    """Make a call; return its frames up to the last."""
    await client.send(call)
    frames = [await client.answer(call["id"])]
    while "message" in frames[-1]:
        frames.append(await client.answer(call["id"]))
    return frames


async def test_chat_streams_to_its_end_and_is_resumed_on_another_connection(
    mesh: LocalMesh, tenant: Tenant, maker: Maker
) -> None:
    session_id = await maker.session()
    address = f"127.0.0.1:{mesh.port}"
    async with opened(address, tenant.tokens.access_token) as client:
        chat = {"id": "c", "stream_chat": {"session_id": session_id, "text": "Who are you?"}}
        *messages, end = await whole(client, chat)
        assert end == {"id": "c", "end": {}}
        turns = [each["message"]["stream_chat"]["frame"] for each in messages]
        assert _ENDS & set(turns[-1])
        turn_id = turns[-1]["completed"]["turn_id"]
        watch = {"turn_id": turn_id, "after": turns[-2]["cursor"]}
        rest = await whole(client, {"id": "w", "watchTurn": watch})
        last = rest[-2]["message"]["watch_turn"]["frame"]
        assert last["completed"] == turns[-1]["completed"]


async def test_turn_is_started_once_for_a_request_id(
    mesh: LocalMesh, tenant: Tenant, maker: Maker
) -> None:
    start = {"session_id": await maker.session(), "text": "Hello", "request_id": "mine"}
    async with opened(f"127.0.0.1:{mesh.port}", tenant.tokens.access_token) as client:
        turns = [
            (await whole(client, {"id": id, "start_turn": start}))[0]["message"]["start_turn"]
            for id in "12"
        ]
    assert turns[0]["turn_id"] == turns[1]["turn_id"]


async def test_rights_are_those_of_the_user_by_grpc(
    mesh: LocalMesh, other_tenant: Tenant, client: Gathering, edge: grpc.aio.Channel, maker: Maker
) -> None:
    session_id = await maker.session()
    await client.auth.CreateUser(
        auth_service_pb2.CreateUserRequest(
            email=_VIEWER, display_name="Viewer", password=_PASSWORD, role=ROLE_VIEWER
        )
    )
    viewer = await Login(_VIEWER, _PASSWORD).tokens(client.auth)
    for caller in (viewer.access_token, other_tenant.tokens.access_token):
        request = turn_service_pb2.StartTurnRequest(session_id=session_id, text="Hello")
        with pytest.raises(DomainError) as caught, peer("agent"):
            await TurnServiceStub(edge).StartTurn(request, metadata=bearer(caller), timeout=20)
        async with opened(f"127.0.0.1:{mesh.port}", caller) as socket:
            start = {"session_id": session_id, "text": "Hello"}
            (refused,) = await whole(socket, {"id": "1", "start_turn": start})
        assert refused["error"]["details"][0]["reason"] == caught.value.reason
        assert caught.value.reason in {"SCOPE_MISSING", "NOT_FOUND"}
