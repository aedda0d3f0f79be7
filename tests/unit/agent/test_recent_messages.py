"""Messages in memory answer as the database would, whatever was asked before."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gathering_agent.models import Message, Native, Role, ToolCall
from gathering_agent.sessions.store_recent import Fetch, Recent

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_END = 2**62
# How many messages come, then: after, before (counted from the end; None: to the end), limit.
_STEPS = st.lists(
    st.tuples(
        st.integers(0, 4), st.integers(0, 30), st.none() | st.integers(0, 30), st.integers(1, 9)
    ),
    max_size=12,
)


def message(sequence: int, text: str = "x") -> Message:
    """Return one with its place."""
    return Message(
        id=f"msg_{sequence}", session_id="ses_1", turn_id="trn_1", step=0, role=Role.USER,
        text=text, sequence=sequence, create_time=_NOW,
    )  # fmt: skip


def reading(stored: Sequence[Message], asked: list[tuple[int, int, int]]) -> Fetch:
    """Return what reads from a list, and notes it."""

    async def fetch(after: int, before: int, limit: int) -> list[Message]:
        asked.append((after, before, limit))
        return [one for one in stored if after < one.sequence < before][-limit:]

    return fetch


@given(_STEPS)
def test_what_is_kept_answers_as_the_database_would(
    steps: list[tuple[int, int, int | None, int]],
) -> None:
    async def run() -> None:
        recent, stored = Recent(), [message(1)]
        fetch = reading(stored, [])
        for new, after, back, limit in steps:
            stored.extend(message(len(stored) + 1) for _ in range(new))
            before = _END if back is None else max(1, len(stored) + 1 - back)
            found = await recent.latest(("t", "s"), fetch, after=after, before=before, limit=limit)
            assert found == await fetch(after, before, limit)

    asyncio.run(run())


async def test_next_turn_reads_what_is_new_and_each_tenant_its_own() -> None:
    stored, asked = [message(n) for n in range(1, 41)], list[tuple[int, int, int]]()
    recent, fetch = Recent(), reading(stored, asked)
    for _ in range(2):
        assert len(await recent.latest(("a", "s"), fetch, after=0, before=_END, limit=100)) == 40
        stored += [message(len(stored) + n) for n in (1, 2)]
        assert len(await recent.latest(("a", "s"), fetch, after=0, before=_END, limit=100)) == 42
        del stored[40:]
        recent = Recent()
    assert asked == [(0, _END, 101), (39, _END, 101)] * 2
    asked.clear()
    await recent.latest(("a", "s"), fetch, after=0, before=_END, limit=100)
    await recent.latest(("b", "s"), fetch, after=0, before=_END, limit=100)
    assert asked == [(0, _END, 101)] * 2


@pytest.mark.parametrize("kept", [0, 5, 19, 20])
async def test_nothing_that_was_kept_counts_where_the_database_went_back(kept: int) -> None:
    stored = [message(n) for n in range(1, 21)]
    recent, fetch = Recent(), reading(stored, [])
    before = await recent.latest(("t", "s"), fetch, after=0, before=_END, limit=100)
    assert before == stored
    del stored[kept:]
    stored += [replace(message(n), id=f"other_{n}") for n in range(kept + 1, 24)]
    found = await recent.latest(("t", "s"), fetch, after=0, before=_END, limit=100)
    assert found == stored
    placed = datetime(2026, 1, 2, tzinfo=UTC)  # its request waited; it has its place anew
    stored[-2:] = [message(22, "lost"), replace(stored[-1], create_time=placed)]
    assert await recent.latest(("t", "s"), fetch, after=0, before=_END, limit=100) == stored
    stored.clear()
    assert await recent.latest(("t", "s"), fetch, after=0, before=_END, limit=100) == []


async def test_sizes_count_all_that_is_said_and_a_session_can_be_forgotten() -> None:
    recent = Recent()
    large = "x" * 10_000
    stored = [
        replace(message(1), tool_calls=(ToolCall("c", "write", {"text": large}),)),
        replace(message(2), native=Native("m", [large])),
    ]
    await recent.latest(("t", "s"), reading(stored, []), after=0, before=_END, limit=9)
    assert recent.characters > 20_000
    recent.forget(("t", "s"))
    recent.forget(("t", "other"))
    assert recent.characters == 0


async def test_memory_is_bounded_and_what_was_used_last_stays() -> None:
    recent = Recent(characters=80_000)
    small, large = [message(1, "x" * 5_000)], [message(1, "x" * 12_000)]
    for name in "abcdefghijklmnopqrstuvwxyz":
        await recent.latest(("t", name), reading(small, []), after=0, before=_END, limit=9)
        await recent.latest(("t", "a"), reading(small, []), after=0, before=_END, limit=9)
        assert recent.characters <= 80_000
    await recent.latest(("t", "l"), reading(large, []), after=0, before=_END, limit=9)
    assert ("t", "a") in recent._runs
    assert not {("t", "b"), ("t", "l")} & recent._runs.keys()
