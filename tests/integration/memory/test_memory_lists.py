"""Lists: order, pages, filters, and what each user sees of them."""

from __future__ import annotations

import pytest

from gathering_mesh.errors import InvalidArgument
from gathering_mesh.ids import new_id
from tests.integration.memory.callers import CIRCLE, PRIVATE, TENANT, Caller, Service, scope


async def _pages(caller: Caller, **fields: object) -> list[str]:
    texts: list[str] = []
    token = ""
    while True:
        page = await caller.page(page_token=token, **fields)
        texts += [memory.text for memory in page.memories]
        token = page.next_page_token
        if not token:
            return texts


async def test_pages_hold_every_memory_once_newest_first(words_only: Service) -> None:
    ada = words_only.caller()
    wanted: list[str] = []
    for number in range(7):
        text = f"Number {number}"
        await ada.remember(text, (PRIVATE, TENANT)[number % 2])
        wanted.insert(0, text)
    for size in (1, 2, 3, 7, 8):
        assert await _pages(ada, page_size=size) == wanted


async def test_list_shows_what_the_caller_may_see(words_only: Service) -> None:
    ada, agent = words_only.caller(), new_id("agt")
    circle = scope(CIRCLE, new_id("crc"))
    await ada.set_members(circle, 1, agent, ada.user)
    await ada.remember("mine")
    await ada.remember("the agent's", agent_id=agent)
    await ada.remember("the circle's", CIRCLE, circle.id, agent_id=agent)
    await ada.remember("all's", TENANT)
    everything = ["all's", "the circle's", "the agent's", "mine"]
    bob, boss = words_only.caller(ada.tenant), words_only.caller(ada.tenant, role="admin")
    assert await _pages(ada) == everything
    assert await _pages(boss, page_size=3) == everything
    assert await _pages(bob) == ["all's"]
    assert await _pages(ada, agent_id=agent) == ["the circle's", "the agent's"]
    assert await _pages(ada, scope_kind=PRIVATE) == ["the agent's", "mine"]
    for caller in (ada, boss):
        assert await _pages(caller, scope_kind=CIRCLE, scope_id=circle.id) == ["the circle's"]
        assert await _pages(caller, scope_kind=PRIVATE, scope_id=agent) == ["the agent's"]
    assert await _pages(bob, scope_kind=CIRCLE, scope_id=circle.id) == []
    assert await _pages(bob, scope_kind=PRIVATE, scope_id=agent) == []
    assert await _pages(words_only.caller()) == []


async def test_superseded_memories_are_listed_and_forgotten_ones_are_not(
    words_only: Service,
) -> None:
    ada = words_only.caller()
    old = await ada.remember("old")
    await ada.remember("new", supersedes_memory_id=old.memory_id)
    gone = await ada.remember("gone")
    await ada.forget(gone.memory_id)
    assert await _pages(ada) == ["new", "old"]


async def test_token_of_another_list_is_refused(words_only: Service) -> None:
    ada = words_only.caller()
    for number in range(3):
        await ada.remember(f"Number {number}")
    token = (await ada.page(page_size=1)).next_page_token
    bob = words_only.caller(ada.tenant)
    for caller, fields in (
        (ada, {"page_token": token, "scope_kind": PRIVATE}),
        (ada, {"page_token": token[:-4] + "AAAA"}),
        (ada, {"page_token": "???"}),
        (bob, {"page_token": token}),
    ):
        with pytest.raises(InvalidArgument) as refused:
            await caller.page(**fields)
        assert refused.value.reason == "INVALID_PAGE_TOKEN"
    with pytest.raises(InvalidArgument) as refused:
        await ada.page(scope_id="crc_x")
    assert "scope_kind" in refused.value.fields
