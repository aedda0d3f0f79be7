"""Log in, create an agent, chat, create a circle and a task, follow events: through one port."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from gathering.agent.v1 import turn_service_pb2
from gathering.events.v1.event_pb2 import Event
from gathering.orchestrator.v1 import task_pb2, task_service_pb2
from gathering_client import Gathering
from gathering_client.streams import (
    TERMINAL_TURN_FRAMES,
    follow_events,
    follow_task,
    follow_turn,
)
from tests.e2e.makers import Maker
from tests.e2e.mesh import LocalMesh

SSE = {"accept": "text/event-stream"}
NDJSON = {"accept": "application/x-ndjson"}
Json = dict[str, Any]


@asynccontextmanager
async def streamed(
    http: httpx.AsyncClient, verb: str, path: str, headers: dict[str, str], **options: Any
) -> AsyncIterator[AsyncIterator[Json]]:
    """Open a stream and yield its messages, in whichever form was asked for."""
    async with http.stream(verb, path, headers=headers, **options) as answer:
        if answer.status_code != 200:
            raise AssertionError(f"{answer.status_code} {(await answer.aread()).decode()}")
        expected = "text/event-stream" if headers is SSE else "json"
        assert expected in answer.headers["content-type"]
        yield _messages(answer, prefix="data:" if headers is SSE else "")


async def _messages(answer: httpx.Response, prefix: str) -> AsyncIterator[Json]:
    async for line in answer.aiter_lines():
        if line.strip():
            assert line.startswith(prefix), line
            message: Json = json.loads(line.removeprefix(prefix))
            yield message


def frame_kind(message: Json) -> str:
    """Return what a frame of a turn is."""
    kinds: set[str] = set(message["frame"]) - {"cursor"}
    assert len(kinds) == 1, message
    return kinds.pop()


async def test_login_by_rest_gives_a_token_that_works(mesh: LocalMesh) -> None:
    email, password = mesh.admin
    async with httpx.AsyncClient(base_url=mesh.url, trust_env=False) as http:
        login = await http.post("/v1/auth/login", json={"email": email, "password": password})
        assert login.status_code == 200, login.text
        token = login.json()["access_token"]
        me = await http.get("/v1/me", headers={"authorization": f"Bearer {token}"})
        assert me.json()["email"] == email
        refresh = {"refresh_token": login.json()["refresh_token"]}
        renewed = await http.post("/v1/auth/refresh", json=refresh)
        assert renewed.status_code == 200, renewed.text
        again = await http.post("/v1/auth/refresh", json=refresh)
        assert again.status_code == 401
        assert "CREDENTIALS_REVOKED" in again.text


async def test_api_key_logs_in_until_it_is_revoked(http: httpx.AsyncClient) -> None:
    made = (await http.post("/v1/api-keys", json={"display_name": "test"})).json()
    exchange = {"api_key": made["secret"]}
    assert (await http.post("/v1/auth/api-key", json=exchange)).status_code == 200
    key_id = made["api_key"]["api_key_id"]
    revoked = await http.post(f"/v1/api-keys/{key_id}:revoke", json={})
    assert revoked.json()["revoke_time"]
    assert (await http.post("/v1/auth/api-key", json=exchange)).status_code == 401


async def test_agent_is_created_read_changed_and_listed_by_rest(http: httpx.AsyncClient) -> None:
    agent = {"name": "Ada", "competences": [{"name": "python", "strength": 0.9}]}
    made = (await http.post("/v1/agents", json={"agent": agent})).json()
    path = f"/v1/agents/{made['agent_id']}"
    assert (await http.get(path)).json() == made
    change = {"agent": {"name": "Grace"}, "update_mask": "name", "etag": made["etag"]}
    changed = await http.patch(path, json=change)
    assert changed.status_code == 200, changed.text
    assert changed.json()["name"] == "Grace"
    assert changed.json()["competences"] == made["competences"]
    stale = await http.patch(path, json=change)
    assert stale.status_code == 409
    assert "ETAG_STALE" in stale.text
    page = (await http.get("/v1/agents", params={"page_size": 1})).json()
    assert page["agents"][0]["agent_id"] == made["agent_id"]
    assert page["next_page_token"]


@pytest.mark.parametrize("headers", [SSE, NDJSON], ids=["sse", "ndjson"])
async def test_chat_streams_to_its_terminal_frame_by_rest(
    headers: dict[str, str], maker: Maker, http: httpx.AsyncClient
) -> None:
    path = f"/v1/sessions/{await maker.session()}:streamChat"
    async with streamed(http, "POST", path, headers, json={"text": "Hello, who are you?"}) as found:
        messages = [message async for message in found]
    kinds = [frame_kind(message) for message in messages]
    assert kinds[-1] == "completed", kinds
    assert not TERMINAL_TURN_FRAMES.intersection(kinds[:-1])
    assert "text_delta" in kinds
    text = "".join(
        m["frame"]["text_delta"]["text"] for m in messages if frame_kind(m) == "text_delta"
    )
    turn = messages[-1]["frame"]["completed"]
    assert turn["state"] == "TURN_STATE_COMPLETED"
    assert text.strip()


async def test_chat_streams_to_its_terminal_frame_by_grpc(maker: Maker, client: Gathering) -> None:
    request = turn_service_pb2.StreamChatRequest(
        session_id=await maker.session(), text="Hello, who are you?"
    )
    frames = [answer.frame async for answer in client.turns.StreamChat(request)]
    kinds = [frame.WhichOneof("frame") for frame in frames]
    assert kinds[-1] == "completed"
    watched = [frame async for frame in follow_turn(client, frames[-1].completed.turn_id)]
    assert watched[-1].WhichOneof("frame") == "completed"
    assert watched[-1].completed == frames[-1].completed


async def test_offline_model_says_what_it_is(maker: Maker, client: Gathering) -> None:
    request = turn_service_pb2.ChatRequest(
        session_id=await maker.session(), text="Hello, who are you?"
    )
    turn = await client.turns.Chat(request)
    assert "offline" in str(turn).lower()


async def test_chat_is_resumed_from_any_frame(maker: Maker, client: Gathering) -> None:
    turn_id = await maker.turn()
    frames = [frame async for frame in follow_turn(client, turn_id)]
    for position, frame in enumerate(frames[:-1]):
        if not frame.cursor:
            continue
        rest = [each async for each in follow_turn(client, turn_id, after=frame.cursor)]
        said = [each for each in rest if each.WhichOneof("frame") != "turn"]
        assert [f.cursor for f in said] == [f.cursor for f in frames[position + 1 :]]


async def _events_of(client: Gathering, subject: str, last: str) -> list[Event]:
    found: list[Event] = []
    async for followed in follow_events(client, cursor="start", subject_ids=[subject]):
        if followed.event is not None:
            found.append(followed.event)
            if followed.event.type == last:
                break
    return found


async def test_task_goes_its_way_and_the_feed_tells_it(maker: Maker, client: Gathering) -> None:
    task_id = await maker.accepted()
    done = await client.tasks.SubmitWork(
        task_service_pb2.SubmitWorkRequest(task_id=task_id, summary="It is done.")
    )
    assert done.state == task_pb2.TASK_STATE_COMPLETED
    states = [task.state async for task in follow_task(client, task_id)]
    assert states[-1] == task_pb2.TASK_STATE_COMPLETED
    events = await _events_of(client, task_id, "task_completed")
    own = [event for event in events if event.source == "orchestrator"]
    assert [event.type for event in own] == [
        "task_created",
        "task_offered",
        "offer_accepted",
        "task_started",
        "task_submitted",
        "task_completed",
    ]
    assert [e.version for e in own if e.aggregate_id == task_id] == sorted(
        e.version for e in own if e.aggregate_id == task_id
    )


@pytest.mark.parametrize("headers", [SSE, NDJSON], ids=["sse", "ndjson"])
async def test_task_is_watched_to_its_end_by_rest(
    headers: dict[str, str], maker: Maker, client: Gathering, http: httpx.AsyncClient
) -> None:
    task_id = await maker.accepted()
    states = []
    async with streamed(http, "GET", f"/v1/tasks/{task_id}:watch", headers) as messages:
        async for message in messages:
            states.append((message["task"]["state"], message.get("end", False)))
            if len(states) == 1:
                await client.tasks.CancelTask(task_service_pb2.CancelTaskRequest(task_id=task_id))
    assert states[-1] == ("TASK_STATE_CANCELLED", True)
    assert not any(end for _, end in states[:-1])


@pytest.mark.parametrize("headers", [SSE, NDJSON], ids=["sse", "ndjson"])
async def test_events_are_followed_live_and_resumed_by_rest(
    headers: dict[str, str], maker: Maker, http: httpx.AsyncClient
) -> None:
    types = {"filter.types": "agent_created"}
    made: list[str] = []
    seen: list[str] = []
    cursor = ""
    async with streamed(http, "GET", "/v1/events:subscribe", headers, params=types) as messages:
        async for message in messages:
            if "checkpoint" in message and not made:
                made.append(await maker.agent())
            if "event" in message:
                seen.append(message["event"]["event"]["agent_created"]["agent_id"])
                cursor = message["event"]["cursor"]
                break
    made += [await maker.agent(), await maker.agent()]
    resume = {**types, "cursor": cursor}
    async with streamed(http, "GET", "/v1/events:subscribe", headers, params=resume) as messages:
        async for message in messages:
            if "event" in message:
                seen.append(message["event"]["event"]["agent_created"]["agent_id"])
            if len(seen) == len(made):
                break
    assert seen == made


async def test_stored_events_are_listed_page_by_page(
    maker: Maker, client: Gathering, http: httpx.AsyncClient
) -> None:
    agent_id = await maker.agent()
    await _events_of(client, agent_id, "agent_created")  # It takes a moment into the log.
    params = {"filter.subject_ids": agent_id, "page_size": "1"}
    found: list[Json] = []
    while True:
        page = (await http.get("/v1/events", params=params)).json()
        found += page.get("events", [])
        if page.get("end"):
            break
        params["cursor"] = page["next_cursor"]
    assert [each["event"]["type"] for each in found] == ["agent_created"]
    assert maker.canary in found[0]["event"]["agent_created"]["name"]
