"""Repeated requests, concurrent writers, events, counted recalls."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import aclosing
from pathlib import Path

import pytest

from gathering.events.v1 import event_pb2
from gathering_mesh.errors import InvalidArgument
from gathering_mesh.ids import new_id
from gathering_mesh.log_rows import Position
from tests.integration.memory.callers import CIRCLE, PRIVATE, TENANT, Service, scope
from tests.integration.memory.conftest import serving
from tests.support.postgres import TestDatabase
from tests.support.waiting import eventually


async def test_repeated_request_gives_the_first_result(words_only: Service) -> None:
    ada = words_only.caller()
    first = await ada.remember("Once", request_id="one")
    again = await ada.remember("Once", request_id="one")
    assert again == first and again.remembered_count == 1
    with pytest.raises(InvalidArgument) as refused:
        await ada.remember("Twice", request_id="one")
    assert refused.value.reason == "REQUEST_ID_REUSED"
    # Another user's and another RPC's keys are their own.
    assert (await words_only.caller(ada.tenant).remember("Twice", request_id="one")).text == "Twice"
    gone = await ada.forget(first.memory_id, request_id="one")
    assert gone == await ada.forget(first.memory_id, request_id="one")


async def test_repeated_request_at_once_stores_once(words_only: Service) -> None:
    ada = words_only.caller()
    answers = await asyncio.gather(*(ada.remember("At once", request_id="r") for _ in range(8)))
    assert len({answer.memory_id for answer in answers}) == 1
    assert {answer.remembered_count for answer in answers} == {1}
    shares = await asyncio.gather(
        *(ada.share(answers[0].memory_id, TENANT, request_id="s") for _ in range(8))
    )
    assert len({share.memory_id for share in shares}) == 1


async def test_repeated_request_after_a_restart_gives_the_first_result(
    database: TestDatabase, tmp_path: Path
) -> None:
    async with serving(database, tmp_path) as service:
        ada = service.caller()
        first = await ada.remember("Still once", request_id="one")
        tenant, user = ada.tenant, ada.user
    async with serving(database, tmp_path) as service:
        again = await type(ada)(service, tenant, user).remember("Still once", request_id="one")
    assert again.memory_id == first.memory_id and again.remembered_count == 1


async def test_one_text_remembered_668_times_is_one_memory(words_only: Service) -> None:
    ada, text = words_only.caller(), "The user said hello"
    for _ in range(42):
        await asyncio.gather(*(ada.remember(text, TENANT) for _ in range(16)))
    hits = (await ada.hits("hello")).hits
    assert [hit.memory.remembered_count for hit in hits] == [672]


async def test_writers_who_replace_each_other_do_not_block(words_only: Service) -> None:
    ada = words_only.caller()
    left, right = await ada.remember("left", TENANT), await ada.remember("right", TENANT)

    async def replace(text: str, older: str) -> str:
        return (await ada.remember(text, TENANT, supersedes_memory_id=older)).memory_id

    # Each one's text is the other's older memory.
    both = await asyncio.gather(
        replace("right", left.memory_id), replace("left", right.memory_id), return_exceptions=True
    )
    active = [m for m in (await ada.page()).memories if m.state == 1]
    assert 1 <= len(active) <= 2, both
    async with words_only.database.server.admin(words_only.database.name) as admin:
        count = await admin.fetchval("select document_count from memory.scope_stats")
    assert count == len(active)


async def test_what_scopes_hold_stays_true_under_concurrent_change(words_only: Service) -> None:
    ada = words_only.caller()

    async def life(number: int) -> None:
        memory = await ada.remember(f"Number {number % 7} of seven", TENANT)
        if number % 3 == 0:
            await ada.forget(memory.memory_id)
        elif number % 3 == 1:
            await ada.remember(f"Word {number}", TENANT, request_id=f"w{number % 5}x{number}")

    await asyncio.gather(*(life(number) for number in range(60)))
    async with words_only.database.server.admin(words_only.database.name) as admin:
        held = await admin.fetchrow(
            "select count(*) as n, coalesce(sum(length), 0)::bigint as length"
            " from memory.memory where state = 'active'"
        )
        stats = await admin.fetchrow("select * from memory.scope_stats")
        lost = await admin.fetchval(
            "select count(*) from memory.posting p join memory.memory m on m.id = p.memory_id"
            " where m.state <> 'active'"
        )
        work = await admin.fetchval("select count(*) from memory.work")
    assert (stats["document_count"], stats["total_length"]) == (held["n"], held["length"])
    assert lost == 0 and work == held["n"]


async def test_each_change_is_an_event_for_those_who_may_see_it(words_only: Service) -> None:
    ada, agent = words_only.caller(), new_id("agt")
    circle = scope(CIRCLE, new_id("crc"))
    await ada.set_members(circle, 3, agent, ada.user)
    mine = await ada.remember("mine", request_id="req-1")
    of_agent = await ada.remember("the agent's", agent_id=agent)
    copy = await ada.share(of_agent.memory_id, CIRCLE, circle.id)
    await ada.remember("the agent's", agent_id=agent)
    newer = await ada.remember("mine now", supersedes_memory_id=mine.memory_id)
    await ada.forget(newer.memory_id)
    events = await _events(words_only, 9)
    assert Counter(event.type for event in events) == {
        "memory_created": 4, "scope_members_changed": 1, "memory_shared": 1, "memory_merged": 1,
        "memory_superseded": 1, "memory_forgotten": 1,
    }  # fmt: skip
    kinds = {event.type: event for event in events}
    assert kinds["scope_members_changed"].scope_members_changed.membership_version == 3
    assert kinds["memory_shared"].memory_shared.memory_id == of_agent.memory_id
    assert kinds["memory_shared"].memory_shared.copy_memory_id == copy.memory_id
    assert not kinds["memory_shared"].audience.user_ids
    assert kinds["memory_merged"].memory_merged.remembered_count == 2
    assert kinds["memory_superseded"].memory_superseded.by_memory_id == newer.memory_id
    created = next(e for e in events if e.memory_created.memory_id == mine.memory_id)
    assert created.memory_created.scope_kind == "private" and created.aggregate_id == mine.memory_id
    assert created.cause.user_id == ada.user and created.cause.request_id == "req-1"
    for event in events:
        if event.aggregate_id in (mine.memory_id, newer.memory_id, of_agent.memory_id):
            private = event.type != "memory_shared"
            assert list(event.audience.user_ids) == [ada.user] * private


async def _events(service: Service, count: int) -> list[event_pb2.Event]:
    found: list[event_pb2.Event] = []
    async with asyncio.timeout(10), aclosing(service.app.log.tail(Position("", 0))) as frames:
        async for frame in frames:
            if frame.HasField("entry"):
                found.append(frame.entry.event)
                if len(found) == count:
                    break
    return found


async def test_each_recall_is_counted_once_in_the_database(words_only: Service) -> None:
    ada = words_only.caller()
    found = await ada.remember("The anchor is up")
    other = await ada.remember("Nothing of that kind")
    assert found.recalled_count == 0 and not found.HasField("last_recall_time")
    await asyncio.gather(*(ada.recall("anchor") for _ in range(20)))

    async def counted() -> bool:
        return (await ada.get(found.memory_id)).recalled_count == 20

    await eventually(counted, "20 recalls are counted")
    assert (await ada.get(found.memory_id)).HasField("last_recall_time")
    assert (await ada.get(other.memory_id)).recalled_count == 0


async def test_stopping_writes_the_counts_that_wait(database: TestDatabase, tmp_path: Path) -> None:
    async with serving(database, tmp_path) as service:
        ada = service.caller()
        await ada.remember("The last word", PRIVATE)
        await asyncio.gather(*(ada.recall("word") for _ in range(30)))
    async with database.server.admin(database.name) as admin:
        assert await admin.fetchval("select recalled_count from memory.recall_stat") == 30
