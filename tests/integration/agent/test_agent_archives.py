"""Sessions as documents: taken to another tenant, checked field by field; what follows of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gathering.agent.v1 import session_archive_pb2
from gathering_mesh.ids import new_id
from tests.integration.agent.harness import Scripted, Service
from tests.integration.agent.test_agent_agents import refusal, tail
from tests.integration.agent.test_agent_contexts import filled
from tests.integration.agent.test_agent_sessions import (
    ASSISTANT,
    TOOL,
    USER,
    ask,
    rows,
    titled,
    with_tools,
)


def archived(*roles: Any, **first: Any) -> session_archive_pb2.SessionArchive:
    messages = [session_archive_pb2.ArchivedMessage(role=role, text="x") for role in roles]
    made = session_archive_pb2.SessionArchive(format_version=1, title="t", messages=messages)
    for name, values in first.items():
        getattr(made.messages[0], name).extend(values)
    return made


CALL = session_archive_pb2.ArchivedToolCall(tool="x")
RESULT = session_archive_pb2.ArchivedToolResult(text="x")
BAD: dict[str, tuple[str, session_archive_pb2.SessionArchive]] = {
    "form": ("archive.format_version", session_archive_pb2.SessionArchive(format_version=2)),
    "no form": ("archive.format_version", session_archive_pb2.SessionArchive(title="x")),
    "beginning": ("archive.messages[0].role", archived(ASSISTANT)),
    "no role": ("archive.messages[0].role", archived(0)),
    "nothing said": (
        "archive.messages[1].text",
        session_archive_pb2.SessionArchive(
            format_version=1,
            messages=[{"role": USER, "text": "x"}, {"role": USER}],  # type: ignore[list-item]
        ),
    ),
    "results of nothing": ("archive.messages[1].role", archived(USER, TOOL)),
    "calls of a user": ("archive.messages[0].tool_calls", archived(USER, tool_calls=[CALL])),
    "results of a user": (
        "archive.messages[0].tool_results",
        archived(USER, tool_results=[RESULT]),
    ),
    "unanswered": (
        "archive.messages[2].tool_results",
        session_archive_pb2.SessionArchive(
            format_version=1,
            messages=[
                {"role": USER, "text": "x"},  # type: ignore[list-item]
                {"role": ASSISTANT, "tool_calls": [CALL, CALL]},  # type: ignore[list-item]
                {"role": TOOL, "tool_results": [RESULT]},  # type: ignore[list-item]
            ],
        ),
    ),
    "too long a title": (
        "archive.title",
        session_archive_pb2.SessionArchive(format_version=1, title="x" * 201),
    ),
}


async def test_document_takes_a_session_to_another_tenant(
    service: Service, model: Scripted
) -> None:
    user, other = service.caller(), service.caller()
    session = await user.session(title="Boats", workspace_id=new_id("wsp"))
    with_tools(model)
    await user.chat(session.session_id, "boats?")
    document = await ask(user, "ExportSession", session_id=session.session_id)
    assert (document.format_version, document.title, document.agent_name) == (1, "Boats", "Ada")
    assert [each.role for each in document.messages] == [USER, ASSISTANT, TOOL, ASSISTANT]
    named = (session.session_id, session.agent_id, user.tenant, user.user, session.workspace_id)
    assert not any(name in str(document) for name in (*named, "msg_", "trn_", "exe_"))
    agent = await other.agent()
    fields = {"agent_id": agent.agent_id, "archive": document}
    made = await ask(other, "ImportSession", request_id="i", **fields)
    assert (await ask(other, "ImportSession", request_id="i", **fields)) == made
    assert (made.title, made.imported, made.message_count) == ("Boats", True, 4)
    assert (made.owner_user_id, made.workspace_id) == (other.user, "")
    messages = await other.messages(made.session_id)
    call = messages[1].tool_calls[0]
    assert messages[2].tool_results[0].call_id == call.call_id
    assert call.call_id == f"{messages[1].message_id}:0"
    again = await ask(other, "ExportSession", session_id=made.session_id)
    assert list(again.messages) == list(document.messages)
    await other.chat(made.session_id, "and now?")
    assert model.requests[-1].messages[0].text == "boats?"
    assert (await refusal(ask(user, "ExportSession", session_id=made.session_id))).status == (
        "NOT_FOUND"
    )
    foreign = {**fields, "agent_id": session.agent_id}
    assert (await refusal(ask(other, "ImportSession", **foreign))).status == "NOT_FOUND"
    rest = await ask(other, "ExportSession", session_id=made.session_id, after_sequence=1)
    assert rest.messages[0].text == "and now?"


async def test_document_that_is_no_dialogue_is_refused_by_field(service: Service) -> None:
    user = service.caller()
    agent_id = (await user.agent()).agent_id
    for what, (path, archive) in BAD.items():
        wrong = await refusal(ask(user, "ImportSession", agent_id=agent_id, archive=archive))
        assert (wrong.status, path in wrong.fields) == ("INVALID_ARGUMENT", True), (what, wrong)
    late = archived(USER)
    late.messages[0].create_time.FromDatetime(datetime.now(UTC) + timedelta(days=1))
    wrong = await refusal(ask(user, "ImportSession", agent_id=agent_id, archive=late))
    assert "archive.messages[0].create_time" in wrong.fields
    huge = archived(*[USER] * 4)
    for message in huge.messages:
        message.text = "x" * 900_000
    refused = await refusal(ask(user, "ImportSession", agent_id=agent_id, archive=huge))
    assert refused.reason == "MESSAGE_TOO_LARGE"
    assert not (await ask(user, "ListSessions")).sessions


async def test_arguments_of_tools_count_before_a_document_is_made(service: Service) -> None:
    """A session of long arguments is refused while it is read, not when it was read whole."""
    user = service.caller()
    session = await filled(user, 400, argument=40_000)
    refused = await refusal(ask(user, "ExportSession", session_id=session.session_id))
    assert refused.reason == "MESSAGE_TOO_LARGE"
    assert "name a later `after_sequence` than 0" in str(refused)


async def test_long_document_is_condensed_when_it_goes_on(
    service: Service, model: Scripted
) -> None:
    user = service.caller()
    agent_id = (await user.agent()).agent_id
    archive = archived(*[USER, ASSISTANT] * 400)
    session = await ask(user, "ImportSession", agent_id=agent_id, archive=archive)
    await user.chat(session.session_id, "go on")
    assert await rows(service, user.tenant, "select count(*) from agent.digests") == 1
    summary, *window = model.requests[-1].messages
    assert "first 700 messages" in summary.text
    assert len(window) == 101


@pytest.mark.parametrize("count", [0, 3])
async def test_document_without_or_with_few_messages_is_a_session(
    service: Service, count: int
) -> None:
    user = service.caller()
    agent_id = (await user.agent()).agent_id
    archive = archived(*[USER] * count)
    session = await ask(user, "ImportSession", agent_id=agent_id, archive=archive)
    assert session.message_count == count
    assert session.HasField("last_message_time") == bool(count)
    assert (await user.chat(session.session_id)).text


async def test_rested_session_begins_with_the_pause(service: Service, model: Scripted) -> None:
    user = service.caller()
    archive = archived(USER, ASSISTANT)
    for message in archive.messages:
        message.create_time.FromDatetime(datetime.now(UTC) - timedelta(days=3, hours=1))
    agent_id = (await user.agent()).agent_id
    session = await ask(user, "ImportSession", agent_id=agent_id, archive=archive)
    await user.chat(session.session_id)
    assert "rested for 3 days" in model.requests[-1].system
    await user.chat(session.session_id)
    assert "rested" not in model.requests[-1].system


async def test_events_of_sessions_are_for_their_owner(service: Service) -> None:
    user = service.caller()
    session = await user.session()
    await user.chat(session.session_id)
    message = (await user.messages(session.session_id))[0].message_id
    await titled(user, session.session_id, "new")
    fields = {"session_id": session.session_id, "message_id": message}
    fork = await ask(user, "ForkSession", **fields)
    imported = await ask(user, "ImportSession", agent_id=session.agent_id, archive=archived(USER))
    await ask(user, "DeleteSession", session_id=session.session_id)
    await user.chat(fork.session_id)
    events = [each for each in await tail(service, 10) if each.type.startswith("session_")]
    assert [each.type for each in events] == [
        "session_created",
        "session_updated",
        "session_created",
        "session_created",
        "session_deleted",
    ]
    assert all(list(each.audience.user_ids) == [user.user] for each in events)
    assert list(events[1].session_updated.changed_fields) == ["title"]
    assert events[2].session_created.parent_session_id == session.session_id
    assert (events[3].aggregate_id, events[3].session_created.imported) == (
        imported.session_id,
        True,
    )
    assert events[4].session_deleted.session_id == session.session_id
