"""Requests at the edge of what is allowed, and past it."""

from __future__ import annotations

import asyncio
import math

import grpc
import pytest

from gathering.memory.v1 import memory_pb2 as pb
from gathering.memory.v1 import memory_service_pb2 as service_pb
from gathering.memory.v1 import memory_service_pb2_grpc as stubs
from gathering_mesh.errors import DomainError, InvalidArgument
from gathering_mesh.ids import new_id
from tests.integration.memory.callers import CIRCLE, PRIVATE, PROJECT, TENANT, Service, scope
from tests.support.probe import headers

FOUR_MEBIBYTES = 4 * 1024 * 1024


async def test_many_writers_of_one_scope_all_come_through(words_only: Service) -> None:
    ada = words_only.caller()
    await asyncio.gather(*(ada.remember(f"Text {n} of many", TENANT) for n in range(200)))
    assert (await ada.hits("many", limit=100)).pending_embedding_count == 200


async def test_circular_sharing_and_forgetting_does_not_deadlock(words_only: Service) -> None:
    ada = words_only.caller(role="admin")
    circles = [scope(CIRCLE, new_id("crc")) for _ in range(3)]
    for circle in circles:
        await ada.set_members(circle, 1, ada.user)
    memories = [await ada.remember(f"in {c.id}", CIRCLE, c.id) for c in circles]

    async def churn(round_: int) -> None:
        for place, memory in enumerate(memories):
            target = circles[(place + round_) % 3]
            try:
                copy = await ada.share(memory.memory_id, CIRCLE, target.id)
                if copy.memory_id != memory.memory_id:
                    await ada.forget(copy.memory_id)
            except DomainError as error:
                # Another one may have forgotten the copy first; nobody may wait for nobody.
                assert error.reason == "WRONG_STATE", error

    await asyncio.gather(*(churn(n) for n in range(12)))


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1])
async def test_numbers_that_are_none_are_refused(words_only: Service, value: float) -> None:
    ada = words_only.caller()
    with pytest.raises(InvalidArgument):
        await ada.remember("x", importance=value)
    with pytest.raises(InvalidArgument):
        await ada.recall("x", minimum_score=value)


@pytest.mark.parametrize(
    "query",
    [
        "???",
        "'; drop table memory.memory; --",
        "%_%",
        "\\",
        "$1",
        "a" * 4_000,
        "猫" * 4_000,
        "\u200b",
    ],
)
async def test_any_query_is_answered(words_only: Service, query: str) -> None:
    ada = words_only.caller()
    await ada.remember("A plain memory")
    assert await ada.recall(query) in ([], ["A plain memory"])


@pytest.mark.parametrize(
    "text", ["\u202e", "🦄🦄🦄", "﷽" * 5_000, "\r\n.\t", "{$ne: 1}", "\ufffe\uffff"]
)
async def test_any_text_is_kept_as_it_is(words_only: Service, text: str) -> None:
    ada = words_only.caller()
    kept = await ada.remember(text)
    assert (await ada.get(kept.memory_id)).text == text
    assert (await ada.forget(kept.memory_id)).text == ""


async def test_answers_fit_into_a_clients_message(words_only: Service) -> None:
    ada = words_only.caller()
    texts = [f"{number:03} " + "猫" * 19_990 for number in range(60)]
    for text in texts:
        await ada.remember(text)
    async with grpc.aio.insecure_channel(
        f"127.0.0.1:{words_only.app.server.port}",
        options=[("grpc.max_receive_message_length", FOUR_MEBIBYTES)],
    ) as channel:
        token = words_only.issuer.user(ada.scopes, tenant=ada.tenant, sub=ada.user)
        stub, metadata = stubs.MemoryServiceStub(channel), headers(token)
        seen, page = [], service_pb.ListMemoriesResponse(next_page_token="")
        while True:
            page = await stub.ListMemories(
                service_pb.ListMemoriesRequest(page_size=200, page_token=page.next_page_token),
                metadata=metadata,
            )
            seen += [memory.text for memory in page.memories]
            if not page.next_page_token:
                break
        assert seen == texts[::-1]
        found = await stub.Recall(
            service_pb.RecallRequest(query="猫猫", limit=100), metadata=metadata
        )
        assert 30 < len(found.hits) < 60


async def test_passed_deadline_leaves_nothing_half_done(words_only: Service) -> None:
    ada = words_only.caller()
    request = service_pb.RememberRequest(text="late", scope=scope(PRIVATE), request_id="late")
    token = words_only.issuer.user(ada.scopes, tenant=ada.tenant, sub=ada.user)
    stub = stubs.MemoryServiceStub(words_only.channel)
    for milliseconds in range(1, 25, 3):
        try:
            await stub.Remember(request, metadata=headers(token), timeout=milliseconds / 1000)
        except grpc.aio.AioRpcError as refused:
            assert refused.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    kept = await ada.remember("late", request_id="late")
    assert kept.remembered_count == 1
    async with words_only.database.server.admin(words_only.database.name) as admin:
        assert await admin.fetchval("select document_count from memory.scope_stats") == 1
        assert await admin.fetchval("select count(*) from memory.posting") == 1


async def test_fifty_scopes_may_be_searched_at_once_and_no_more(words_only: Service) -> None:
    ada = words_only.caller(role="admin")
    circles = [scope(CIRCLE, new_id("crc")) for _ in range(51)]
    await ada.remember("deep inside", CIRCLE, circles[49].id)
    assert await ada.recall("deep", scopes=circles[:50]) == ["deep inside"]
    with pytest.raises(InvalidArgument):
        await ada.recall("deep", scopes=circles)


async def test_claimed_ownership_counts_for_nothing(words_only: Service) -> None:
    """A provenance names what it likes; it opens nothing."""
    ada = words_only.caller()
    secret = await ada.remember("A secret of Ada's")
    eve = words_only.caller(ada.tenant)
    forged = await eve.remember(
        "A plan of Eve's", provenance=pb.Provenance(memory_id=secret.memory_id, source="ada")
    )
    assert forged.provenance.memory_id == secret.memory_id
    assert await eve.recall("secret") == []
    assert await ada.recall("plan") == []


async def test_session_of_another_does_not_lend_its_memories(words_only: Service) -> None:
    ada, session = words_only.caller(), new_id("ses")
    provenance = pb.Provenance(session_id=session)
    await ada.remember("The budget is four million", provenance=provenance)
    eve = words_only.caller(ada.tenant)
    await eve.remember("I was in that session", provenance=provenance)
    await ada.remember("And it is approved", provenance=provenance)
    assert await eve.recall("session") == ["I was in that session"]


@pytest.mark.parametrize("kind", [CIRCLE, PROJECT])
async def test_ids_of_circles_and_projects_are_well_formed(
    words_only: Service, kind: pb.ScopeKind.ValueType
) -> None:
    boss = words_only.caller(role="admin")
    mine = await boss.remember("To be shared")
    right, other = ("crc", "prj") if kind == CIRCLE else ("prj", "crc")
    for wrong in ("", "x", new_id(other), f"{right}_" + "A" * 32, f"{new_id(right)}0", f"{right}_"):
        for refused, field in (
            (boss.remember("x", kind, wrong), "scope.id"),
            (boss.share(mine.memory_id, kind, wrong), "scope.id"),
            (boss.recall("x", scopes=[scope(kind, wrong)]), "scopes.id"),
            (boss.set_members(scope(kind, wrong), 1), "members.scope.id"),
        ):
            with pytest.raises(InvalidArgument) as refusal:
                await refused
            assert refusal.value.reason == "INVALID_FIELD" and field in refusal.value.fields
    assert (await boss.remember("y", kind, new_id(right))).text == "y"
