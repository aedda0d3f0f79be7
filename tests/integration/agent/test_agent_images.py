"""Pictures that are shown to agents, over the life of their messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gathering.agent.v1 import (
    model_service_pb2,
    session_archive_pb2,
    session_pb2,
    session_service_pb2,
    turn_pb2,
)
from gathering_agent.errors import ModelFailed
from gathering_agent.settings import ModelEntry
from gathering_mesh.errors import DomainError
from tests.integration.agent.harness import Caller, Scripted, Service, serving
from tests.integration.agent.peers import Peers
from tests.support.pictures import gif, png
from tests.support.postgres import TestDatabase

SEER = ModelEntry(name="seer", image_tokens=700)
DEAR = ModelEntry(name="dear", image_tokens=50_000)
BLIND = ModelEntry(name="blind", image_tokens=0)


@pytest.fixture
async def service(
    database: TestDatabase, peers: Peers, model: Scripted, tmp_path: Path
) -> AsyncIterator[Service]:
    """The service, with a model that takes images and one that takes none."""
    async with _serving(database, peers, model, tmp_path) as running:
        yield running


def _serving(database: TestDatabase, peers: Peers, model: Scripted, folder: Path) -> Any:
    return serving(database, peers, folder, model, agent_openai_models=(SEER, BLIND, DEAR))


def _sent(*data: bytes) -> list[session_pb2.ImageInput]:
    return [session_pb2.ImageInput(data=one) for one in data]


async def _looking(user: Caller, *data: bytes, model: str = "openai/seer") -> str:
    """Show pictures to an agent; return the session."""
    agent = await user.agent(model=model)
    session = await user.session(agent.agent_id)
    turn = await user.chat(session.session_id, "look", images=_sent(*data))
    assert turn.state == turn_pb2.TURN_STATE_COMPLETED
    return session.session_id


async def _image(user: Caller, message: session_pb2.Message, place: int = 0) -> session_pb2.Image:
    request = session_service_pb2.GetMessageImageRequest(
        session_id=message.session_id, message_id=message.message_id, place=place
    )
    image: session_pb2.Image = await user.call("SessionService.GetMessageImage", request)
    return image


async def _kept(service: Service) -> int:
    """Return how many pictures are stored."""
    connection = await asyncpg.connect(service.database.admin)
    try:
        return int(await connection.fetchval("select count(*) from agent.images"))
    finally:
        await connection.close()


async def test_images_are_shown_kept_and_read_by_their_owner_alone(
    service: Service, model: Scripted
) -> None:
    user = service.caller()
    pictures = (png(20, 30), gif(4, 5))
    session_id = await _looking(user, *pictures)
    (asked,) = model.requests[0].messages
    assert [one.data for one in asked.images] == list(pictures)
    assert asked.text == "look"
    said, answer = await user.messages(session_id)
    assert [(one.media_type, one.width_pixels, one.height_pixels) for one in said.images] == [
        ("image/png", 20, 30), ("image/gif", 4, 5),
    ]  # fmt: skip
    assert not any(one.data for one in said.images)
    assert not answer.images
    assert [(await _image(user, said, place)).data for place in (0, 1)] == list(pictures)
    with pytest.raises(DomainError, match="has no image 2") as caught:
        await _image(user, said, 2)
    assert caught.value.reason == "NOT_FOUND"
    for stranger in (service.caller(user.tenant), service.caller()):
        with pytest.raises(DomainError) as caught:
            await _image(stranger, said)
        assert caught.value.reason == "NOT_FOUND"


async def test_models_that_take_no_images_are_not_sent_any(
    service: Service, model: Scripted
) -> None:
    user = service.caller()
    for name, told in (("offline", "offline"), ("openai/blind", "openai/blind")):
        session = await user.session((await user.agent(model=name)).agent_id)
        with pytest.raises(DomainError, match=f"{told} takes no images") as caught:
            await user.start(session.session_id, images=_sent(png(1, 1)))
        assert caught.value.reason == "INVALID_FIELD"
        assert "images" in caught.value.fields
    assert not model.requests
    request = model_service_pb2.ListModelsRequest()
    listed = await user.call("ModelService.ListModels", request)
    takes = {one.name: one.image_tokens for one in listed.models}
    assert (takes["openai/seer"], takes["openai/blind"], takes["offline"]) == (700, 0, 0)


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ([png(1, 1), b"<svg/>"], "images[1].data"),
        ([b""], "images[0].data"),
        ([gif(1, 1)] * 9, "images"),
        ([png(1, 1, 1_300_000)] * 2, "images"),
        ([png(1, 1, 2_500_000)], "images[0].data"),
    ],
    ids=["no-picture", "empty", "too-many", "too-large-together", "too-large"],
)
async def test_bad_image_is_refused_with_its_field(
    service: Service, data: list[bytes], path: str
) -> None:
    user = service.caller()
    session = await user.session((await user.agent(model="openai/seer")).agent_id)
    with pytest.raises(DomainError) as caught:
        await user.start(session.session_id, images=_sent(*data))
    assert caught.value.reason == "INVALID_FIELD"
    assert list(caught.value.fields) == [path]
    assert not await user.messages(session.session_id)


async def test_next_turn_sees_them_again_also_at_another_replica(
    service: Service, model: Scripted, tmp_path: Path
) -> None:
    user = service.caller()
    session_id = await _looking(user, png(2, 3))
    other = tmp_path / "other"
    await asyncio.to_thread(other.mkdir)
    async with _serving(service.database, service.peers, model, other) as second:
        there = Caller(second, user.tenant, user.user)
        await there.chat(session_id, "and now?")
    assert model.requests[-1].messages[0].images[0].data == png(2, 3)


async def test_oldest_images_are_told_of_only(service: Service, model: Scripted) -> None:
    user = service.caller()
    session_id = await _looking(user, *[png(1, n) for n in range(1, 9)])
    for _ in range(2):
        await user.chat(session_id, "more", images=_sent(*[gif(1, n) for n in range(1, 9)]))
    first, *_ = model.requests[-1].messages
    assert first.images == ()
    assert "[An image, image/png, 1x8, no longer shown.]" in first.text
    assert sum(len(said.images) for said in model.requests[-1].messages) == 16


async def test_images_that_are_too_large_together_are_told_of_only(
    service: Service, model: Scripted
) -> None:
    user = service.caller()
    session_id = await _looking(user, png(1, 1, 2_400_000))
    for height in (2, 3):
        await user.chat(session_id, "more", images=_sent(png(1, height, 2_400_000)))
    await user.chat(session_id, "what did you see?")
    shown = [[one.height for one in said.images] for said in model.requests[-1].messages]
    assert [heights for heights in shown if heights] == [[2], [3]]
    assert "1x1, no longer shown" in model.requests[-1].messages[0].text


async def test_image_of_a_turn_that_waits_is_shown_when_its_time_comes_and_goes_when_it_does_not(
    service: Service, model: Scripted
) -> None:
    user = service.caller()
    session = await user.session((await user.agent(model="openai/seer")).agent_id)
    model.gate.clear()
    first = await user.start(session.session_id, "one two")
    waits = turn_pb2.IF_BUSY_QUEUE
    second, third = [
        await user.start(session.session_id, text, images=_sent(png(2, n)), if_busy=waits)
        for n, text in enumerate(("second", "third"), 1)
    ]
    await user.cancel(third.turn_id)
    assert await _kept(service) == 1
    model.gate.set()
    await user.ended(first.turn_id)
    await user.ended(second.turn_id)
    assert model.requests[-1].messages[-1].images[0].data == png(2, 1)


async def test_budget_counts_what_an_image_may_cost(service: Service) -> None:
    user = service.caller(role="admin")
    agent = await user.agent(model="openai/dear")
    await user.set_budget("agent", agent.agent_id, max_tokens=60_000)
    session = await user.session(agent.agent_id)
    turn = await user.chat(session.session_id, "look")
    assert turn.state == turn_pb2.TURN_STATE_COMPLETED
    turn = await user.chat(session.session_id, "look", images=_sent(gif(1, 1), gif(1, 2)))
    assert turn.error_reason == "BUDGET_EXHAUSTED"
    assert "the call may need 1" in turn.error_message  # more than 100,000 tokens


async def test_forks_and_documents_have_them_and_deletion_takes_them(
    service: Service, model: Scripted
) -> None:
    user = service.caller()
    session_id = await _looking(user, png(2, 3), gif(4, 5))
    said, answer = await user.messages(session_id)
    fork = await user.call(
        "SessionService.ForkSession",
        session_service_pb2.ForkSessionRequest(session_id=session_id, message_id=answer.message_id),
    )
    archive = await user.call(
        "SessionService.ExportSession",
        session_service_pb2.ExportSessionRequest(session_id=session_id),
    )
    assert [one.data for one in archive.messages[0].images] == [png(2, 3), gif(4, 5)]
    bare = await user.call(
        "SessionService.ExportSession",
        session_service_pb2.ExportSessionRequest(session_id=session_id, without_images=True),
    )
    assert not bare.messages[0].images
    imported = await user.call(
        "SessionService.ImportSession",
        session_service_pb2.ImportSessionRequest(agent_id=fork.agent_id, archive=archive),
    )
    delete = session_service_pb2.DeleteSessionRequest(session_id=session_id)
    await user.call("SessionService.DeleteSession", delete)
    for copy in (fork, imported):
        copied = (await user.messages(copy.session_id))[0]
        assert copied.message_id != said.message_id
        assert [(await _image(user, copied, place)).data for place in (0, 1)] == [
            png(2, 3), gif(4, 5),
        ]  # fmt: skip
        await user.chat(copy.session_id, "still there?")
        assert model.requests[-1].messages[0].images[0].data == png(2, 3)
        await user.call(
            "SessionService.DeleteSession",
            session_service_pb2.DeleteSessionRequest(session_id=copy.session_id),
        )
    assert await _kept(service) == 0


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"images": [b"no"]}, "archive.messages[0].images[0].data"),
        ({"images": [png(1, 1, 1_300_000)] * 2}, "archive.messages[0].images"),
    ],
)
async def test_document_with_a_bad_image_is_refused(
    service: Service, change: dict[str, Any], path: str
) -> None:
    user = service.caller()
    message = session_archive_pb2.ArchivedMessage(
        role=session_pb2.MESSAGE_ROLE_USER, text="look", images=_sent(*change["images"])
    )
    archive = session_archive_pb2.SessionArchive(format_version=1, messages=[message])
    request = session_service_pb2.ImportSessionRequest(
        agent_id=(await user.agent()).agent_id, archive=archive
    )
    with pytest.raises(DomainError) as caught:
        await user.call("SessionService.ImportSession", request)
    assert path in caught.value.fields


async def test_model_that_takes_over_is_told_what_it_cannot_see(
    service: Service, model: Scripted
) -> None:
    user = service.caller()
    agent = await user.agent(model="openai/seer", fallback_models=["openai/blind"])
    session = await user.session(agent.agent_id)
    model.failures = [ModelFailed("down")] * 4
    turn = await user.chat(session.session_id, "look", images=_sent(png(2, 3)))
    assert turn.model == "openai/blind"
    last = model.requests[-1].messages[-1]
    assert last.images == ()
    assert last.text == "[An image, image/png, 2x3, which you cannot see.]\nlook"
