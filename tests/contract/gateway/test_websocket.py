"""The WebSocket: calls and their answers, what it refuses, how it ends."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import CloseCode

from gathering.gateway.v1 import auth_service_pb2
from gathering.gateway.v1 import websocket_pb2 as pb
from gathering.gateway.v1.auth_pb2 import ROLE_MEMBER
from tests.support.fixtures import NewDatabase
from tests.support.gateway import PASSWORD, Gateway, bearer, running_gateway
from tests.support.waiting import eventually
from tests.support.websockets import Client, opened

SUBSCRIBE = {"id": "1", "subscribe": {}}


@pytest.fixture
async def strict(new_database: NewDatabase, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway with tight limits and tokens that end soon."""
    limits = {"connections_of_user": 2, "calls": 2, "idle_seconds": 1.0}
    async with running_gateway(
        await new_database("gateway"), tmp_path, websocket=limits, access_token_seconds=4.0
    ) as running:
        yield running


def visit(gateway: Gateway, token: str, **options: Any) -> AbstractAsyncContextManager[Client]:
    """Open a WebSocket on the gateway's own port."""
    return opened(f"127.0.0.1:{gateway.app.http.port}", token, **options)


async def make_user(gateway: Gateway, admin: auth_service_pb2.Tokens, name: str) -> str:
    """Make a user, which is an event; return its id."""
    request = auth_service_pb2.CreateUserRequest(
        email=f"{name}@example.org", display_name=name, password=PASSWORD, role=ROLE_MEMBER
    )
    made = await gateway.auth.CreateUser(request, metadata=bearer(admin), timeout=20)
    return str(made.user_id)


async def closed(client: Client) -> tuple[int, str]:
    """Return code and reason of the close that comes next."""
    with pytest.raises(ConnectionClosed) as caught:
        await client.receive()
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


async def next_event(client: Client, id: str) -> dict[str, Any]:
    """Return the next event of a subscription, with its cursor."""
    while "event" not in (found := (await client.answer(id))["message"]["subscribe"]):
        continue
    event: dict[str, Any] = found["event"]
    return event


async def refusal(client: Client) -> dict[str, Any]:
    """Return the next frame that is an error."""
    while "error" not in (found := await client.receive()):
        continue
    return found


def open_streams(gateway: Gateway) -> int:
    """Return how many streams the gateway serves now."""
    return gateway.app.server._pipeline._streams.count


async def no_stream_is_open(gateway: Gateway) -> None:
    """Wait until it serves none."""

    async def none_left() -> bool:
        return open_streams(gateway) == 0

    await eventually(none_left, "all streams end")


def reason(frame: dict[str, Any]) -> str:
    """Return the reason of an error frame."""
    found: str = frame["error"]["details"][0]["reason"]
    return found


async def test_subscription_shows_what_happens_and_is_resumed_by_its_cursor(
    gateway: Gateway,
) -> None:
    admin = await gateway.admin()
    wanted = {"filter": {"types": ["user_created"]}}
    async with visit(gateway, admin.access_token) as client:
        await client.send({"id": "a", "subscribe": wanted})
        assert (await client.answer("a"))["message"]["subscribe"]["checkpoint"]["cursor"]
        first = await make_user(gateway, admin, "first")
        event = await next_event(client, "a")
        while (
            event["event"]["user_created"]["user_id"] != first
        ):  # the administrator may come first
            event = await next_event(client, "a")
    second = await make_user(gateway, admin, "second")
    async with visit(gateway, admin.access_token) as client:
        await client.send({"id": "b", "subscribe": {**wanted, "cursor": event["cursor"]}})
        assert (await next_event(client, "b"))["event"]["user_created"]["user_id"] == second


async def test_frames_are_of_the_contract_with_the_field_names_of_rest(gateway: Gateway) -> None:
    admin = await gateway.admin()
    wanted = {"filter": {"types": ["user_created"]}, "cursor": "start"}
    async with visit(gateway, admin.access_token) as client:
        await client.send({"id": "1", "subscribe": wanted})
        await make_user(gateway, admin, "somebody")
        while "user_created" not in (text := await client.connection.recv(decode=True)):
            continue
    frame = json_format.Parse(text, pb.ServerFrame())
    content = json.loads(text)["message"]["subscribe"]["event"]["event"]
    assert str(frame.message.subscribe.event.event.position) == content["position"]


async def test_calls_run_side_by_side_and_each_ends_by_itself(gateway: Gateway) -> None:
    admin = await gateway.admin()
    async with visit(gateway, admin.access_token) as client:
        await client.send({"id": "1", "subscribe": {}})
        assert "message" in await client.answer("1")
        await client.send({"id": "2", "subscribe": {"cursor": "nonsense"}})
        refused = await client.answer("2")
        assert refused["error"]["code"] == 3
        assert reason(refused) == "INVALID_CURSOR"
        await client.send({"id": "2", "subscribe": {}})
        assert "message" in await client.answer("2"), "the id of a call that ended is free"


async def test_error_is_what_rest_answers(gateway: Gateway) -> None:
    admin = await gateway.admin()
    async with visit(gateway, admin.access_token, headers={"x-request-id": "mine"}) as client:
        await client.send({"id": "1", "subscribe": {"cursor": "x" * 3000}})
        error = (await client.receive())["error"]
    info, bad = error["details"]
    assert info["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    assert info["domain"] == "gathering"
    assert info["metadata"]["request_id"] == "mine.1"
    assert bad["field_violations"][0]["field"] == "cursor"


async def test_part_that_is_not_there_is_unavailable(gateway: Gateway) -> None:
    admin = await gateway.admin()
    async with visit(gateway, admin.access_token) as client:
        await client.send({"id": "1", "watch_task": {"task_id": "tsk_" + "0" * 32}})
        assert reason(await client.receive()) == "UNAVAILABLE"


async def test_call_is_cancelled_and_its_stream_ends_at_the_service(gateway: Gateway) -> None:
    admin = await gateway.admin()
    async with visit(gateway, admin.access_token) as client:
        await client.send({"id": "1", "cancel": {}})
        await client.send(SUBSCRIBE)
        assert "message" in await client.answer("1"), "what is not open is cancelled in silence"
        assert open_streams(gateway) == 1
        await client.send({"id": "1", "cancel": {}})
        ended = await refusal(client)
        assert (ended["id"], ended["error"]["code"], reason(ended)) == ("1", 1, "CANCELLED")
        await no_stream_is_open(gateway)


async def test_client_that_leaves_leaves_no_stream_behind(gateway: Gateway) -> None:
    admin = await gateway.admin()
    async with visit(gateway, admin.access_token) as client:
        for id in "123":
            await client.send({"id": id, "subscribe": {}})
            await client.answer(id)
        assert open_streams(gateway) == 3
        client.connection.transport.abort()
    await no_stream_is_open(gateway)


@pytest.mark.parametrize(
    "data",
    [b"\x00\x01", "{", '{"id": "2", "subscribe": {"nonsense": 1}}', '{"id": "2"}', "x" * 1_100_000],
    ids=["binary", "no JSON", "unknown field", "no call", "too large"],
)
async def test_bad_frame_is_answered_and_the_connection_goes_on(
    gateway: Gateway, data: str | bytes
) -> None:
    admin = await gateway.admin()
    async with visit(gateway, admin.access_token) as client:
        await client.send(SUBSCRIBE)
        await client.answer("1")
        await client.connection.send(data)
        refused = await refusal(client)
        assert refused["id"] in {"", "2"}
        assert reason(refused) in {"MALFORMED_REQUEST", "MESSAGE_TOO_LARGE"}
        await make_user(gateway, admin, "later")
        assert await next_event(client, "1")


async def test_text_that_is_no_utf8_ends_the_connection_and_is_no_fault(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    admin = await gateway.admin()
    async with visit(gateway, admin.access_token) as client:
        await client.connection.send([b'{"id": "', b'\xff"}'], text=True)
        with pytest.raises(ConnectionClosed) as caught:
            await client.receive()
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == CloseCode.INVALID_DATA
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


async def test_id_in_use_is_refused_without_ending_its_call(gateway: Gateway) -> None:
    admin = await gateway.admin()
    async with visit(gateway, admin.access_token) as client:
        await client.send(SUBSCRIBE)
        await client.answer("1")
        await client.send(SUBSCRIBE)
        refused = await refusal(client)
        assert (refused["id"], reason(refused)) == ("", "ALREADY_EXISTS")
        await make_user(gateway, admin, "later")
        assert await next_event(client, "1")


async def test_calls_and_connections_are_bounded(strict: Gateway) -> None:
    token = (await strict.admin()).access_token
    async with visit(strict, token) as client, visit(strict, token):
        for id in "12":
            await client.send({"id": id, "subscribe": {}})
            await client.answer(id)
        await client.send({"id": "3", "subscribe": {}})
        assert reason(await client.answer("3")) == "QUOTA_EXCEEDED"
        with pytest.raises(InvalidStatus) as caught:
            await visit(strict, token).__aenter__()
    assert caught.value.response.status_code == 429
    async with visit(strict, token):
        pass  # a place is free again


async def test_token_that_ends_ends_streams_then_the_connection(strict: Gateway) -> None:
    admin = await strict.admin()
    async with visit(strict, admin.access_token) as client:
        await client.send(SUBSCRIBE)
        frames = [await client.receive()]
        while "reconnect" not in frames[-1]:
            frames.append(await client.receive())
        last, end, goodbye = frames[-3:]
        assert last["message"]["subscribe"]["reconnect"]["cursor"]
        assert end == {"id": "1", "end": {}}
        assert goodbye == {"id": "", "reconnect": {"reason": "token_expired"}}
        assert await closed(client) == (4401, "token_expired")


async def test_connection_without_a_call_is_closed(strict: Gateway) -> None:
    admin = await strict.admin()
    async with visit(strict, admin.access_token) as client:
        assert (await closed(client))[0] == 4408


async def test_server_that_drains_says_so(gateway: Gateway) -> None:
    admin = await gateway.admin()
    async with visit(gateway, admin.access_token) as client:
        await client.send(SUBSCRIBE)
        await client.answer("1")
        stopping = asyncio.create_task(gateway.app.server.stop(5))
        frames = [await client.receive()]
        while frames[-1]["id"]:
            frames.append(await client.receive())
        assert frames[-1] == {"id": "", "reconnect": {"reason": "draining"}}
        assert await closed(client) == (1001, "draining")
        await stopping


async def test_token_is_needed(gateway: Gateway) -> None:
    for token in ("", "nonsense"):
        with pytest.raises(InvalidStatus) as caught:
            await visit(gateway, token).__aenter__()
        answer = caught.value.response
        assert answer.status_code == 401
        assert b"TOKEN_" in (answer.body or b"")
