"""Cursors and the live channel: what a stream is made of."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gathering_agent.errors import BadCursor
from gathering_agent.models import Limits, Message, Role, ToolCall, Turn, TurnState
from gathering_agent.streams.live import Channel, Known, Live
from gathering_agent.streams.models import (
    Activity,
    Cursor,
    Delta,
    Doing,
    Frame,
    Output,
    Stored,
    Withdrawn,
)
from gathering_agent.streams.watching import _View, between_deltas

TURN = "trn_" + "0123456789abcdef" * 2
numbers = st.integers(0, 10**9 - 1)
generations = st.one_of(st.just(""), st.builds(lambda a, b: f"{a}-{b}", numbers, numbers))


@given(numbers, numbers, generations, numbers)
def test_cursor_comes_back_as_it_went(seq: int, step: int, generation: str, sent: int) -> None:
    cursor = Cursor(seq, step, generation, sent)
    assert Cursor.decode(TURN, cursor.encode(TURN)) == cursor


@given(st.text(max_size=60))
def test_cursor_of_any_text_is_read_or_refused(text: str) -> None:
    try:
        Cursor.decode(TURN, text)
    except BadCursor:
        return
    assert text == "" or text.startswith(TURN[-8:])


def said(step: int, text: str, generation: str, role: Role = Role.ASSISTANT) -> Message:
    return Message(f"msg_{step}", "ses_1", TURN, step, 2 * step, role, text, generation=generation)


def told(frames: list[Frame]) -> list[object]:
    return [
        (frame.body.offset, frame.body.text) if isinstance(frame.body, Delta) else type(frame.body)
        for frame in frames
    ]


def test_text_that_was_not_seen_comes_before_its_step() -> None:
    live = Live()
    view = _View(TURN, Cursor())
    with live.running(TURN) as channel:
        channel.begin(1, "5-1")
        channel.add("hel")
        assert told(list(view.follow(channel))) == [(0, "hel")]
        assert told(list(view.take(said(1, "hello", "5-1")))) == [(3, "lo"), Stored]
        assert list(view.follow(channel)) == []  # the step is told already


def test_text_of_a_lost_attempt_is_withdrawn() -> None:
    live = Live()
    view = _View(TURN, Cursor())
    with live.running(TURN) as channel:
        channel.begin(1, "5-1")
        channel.add("lost")
        assert told(list(view.follow(channel))) == [(0, "lost")]
        channel.begin(1, "5-2")
        channel.add("new")
        assert told(list(view.follow(channel))) == [Withdrawn, (0, "new")]
    resumed = _View(TURN, view.cursor)
    assert told(list(resumed.take(said(1, "newer", "9-1")))) == [Withdrawn, (0, "newer"), Stored]


def test_text_of_a_later_step_waits_for_what_is_stored_before_it() -> None:
    live = Live()
    view = _View(TURN, Cursor())
    with live.running(TURN) as channel:
        channel.begin(2, "5-1")
        channel.add("second")
        assert list(view.follow(channel)) == []
        list(view.take(said(1, "first", "5-1")))
        assert told(list(view.follow(channel))) == [(0, "second")]


def test_what_tools_do_is_told_before_their_results_alone() -> None:
    live = Live()
    view = _View(TURN, Cursor())
    calls = (ToolCall(f"{TURN}:1:0", "fs_read", {}), ToolCall(f"{TURN}:1:1", "fs_read", {}))
    with live.running(TURN) as channel:
        list(view.take(replace(said(1, "", "5-1"), tool_calls=calls)))
        channel.tell(Activity(1, calls[0].call_id, "fs_read", Doing.STARTED))
        assert told(list(view.follow(channel))) == [Activity]
        channel.tell(Activity(1, calls[0].call_id, "fs_read", Doing.FINISHED))
        results = replace(said(1, "", "", Role.TOOL), sequence=3)
        assert told(list(view.take(results))) == [Stored]
        assert list(view.follow(channel)) == []
        resumed = _View(TURN, view.cursor)
        assert list(resumed.take(results)) == []
        assert list(resumed.follow(channel)) == []


CALL = f"{TURN}:1:0"


def piece(offset: int, text: str, attempt: int = 1, step: int = 1, call: str = CALL) -> Output:
    return Output(step, call, "exe_1", attempt, offset, text.encode())


def heard(view: _View, channel: Channel) -> list[object]:
    """Return what a watcher is told now: pieces as (attempt, offset, text)."""
    bodies = [frame.body for frame in view.follow(channel)]
    return [
        (one.attempt, one.offset, one.text.decode()) if isinstance(one, Output) else one
        for one in bodies
    ]


def watching_step_one() -> _View:
    view = _View(TURN, Cursor())
    list(view.take(replace(said(1, "", "5-1"), tool_calls=(ToolCall(CALL, "search_text", {}),))))
    return view


def test_output_is_told_once_after_its_call_began_and_before_it_ended() -> None:
    live = Live()
    view = watching_step_one()
    doing = partial(Activity, 1, CALL, "search_text")
    with live.running(TURN) as channel:
        channel.tell(doing(Doing.STARTED))
        channel.tell(piece(0, "one\n"))
        channel.tell(piece(4, "twö\n"))
        assert heard(view, channel) == [doing(Doing.STARTED), (1, 0, "one\ntwö\n")]
        channel.tell(piece(0, "one\ntwö\nthree\n"))  # another replica follows it from its start
        channel.tell(doing(Doing.FINISHED))
        assert heard(view, channel) == [(1, 9, "three\n"), doing(Doing.FINISHED)]
        channel.tell(piece(15, "late"))
        results = replace(said(1, "", "", Role.TOOL), sequence=3)
        assert told(list(view.take(results))) == [Stored]
        assert heard(view, channel) == []


def test_text_that_begins_while_tools_are_told_of_waits_for_their_results() -> None:
    live = Live()
    view = watching_step_one()
    with live.running(TURN) as channel:
        channel.tell(Activity(1, CALL, "search_text", Doing.STARTED))
        following = view.follow(channel)
        assert isinstance(next(following).body, Activity)
        channel.begin(2, "5-1")
        channel.add("second")
        assert list(following) == []
        assert view.behind(channel)
        list(view.take(replace(said(1, "", "", Role.TOOL), sequence=3)))
        assert told(list(view.follow(channel))) == [(0, "second")]


def test_output_of_a_new_attempt_takes_the_place_of_the_old() -> None:
    live = Live()
    view = watching_step_one()
    with live.running(TURN) as channel:
        channel.tell(piece(0, "lost"))
        assert heard(view, channel) == [(1, 0, "lost")]
        channel.tell(piece(0, "new", attempt=2))
        channel.tell(piece(4, "more that is void", attempt=1))
        assert heard(view, channel) == [(2, 0, "new")]


def test_missing_output_shows_in_the_place_of_the_next_piece() -> None:
    live = Live()
    view = watching_step_one()
    with live.running(TURN) as channel:
        channel.tell(piece(0, "one"))
        assert heard(view, channel) == [(1, 0, "one")]
        channel.tell(piece(100, "behind a gap"))
        channel.tell(piece(3, "too late"))
        assert heard(view, channel) == [(1, 100, "behind a gap")]


def test_who_comes_late_has_the_latest_between_characters() -> None:
    live = Live()
    with live.running(TURN) as channel:
        for number in range(40):
            channel.tell(piece(number * 3001, "ö" * 1500 + "x"))
        ((_, offset, text),) = cast("list[Any]", heard(watching_step_one(), channel))
    assert offset + len(text.encode()) == 40 * 3001
    assert 64 * 1024 - 2 < len(text.encode()) <= 64 * 1024


def test_output_of_few_calls_of_one_step_is_kept() -> None:
    live = Live()
    with live.running(TURN) as channel:
        for number in range(40):
            channel.tell(piece(0, "x", call=f"{TURN}:1:{number}"))
        assert len(channel.outputs) == 16
        channel.tell(piece(0, "x", step=2, call=f"{TURN}:2:0"))
        assert list(channel.outputs) == [f"{TURN}:2:0"]


def test_activity_that_comes_while_another_is_sent_is_told() -> None:
    live = Live()
    view = watching_step_one()
    with live.running(TURN) as channel:
        channel.tell(Activity(1, CALL, "a", Doing.STARTED))
        frames = view.follow(channel)
        next(frames)
        channel.tell(Activity(1, CALL, "a", Doing.FINISHED))
        list(frames)
        assert [one.doing for one in cast("list[Any]", heard(view, channel))] == [Doing.FINISHED]


def test_output_is_shared_from_what_is_kept_with_who_begins_to_want_it() -> None:
    live = Live()
    with live.running(TURN) as channel:
        channel.tell(piece(0, "one"))
        assert not live.unshared
        live.want([TURN], 60.0)
        assert live.unshared == {TURN}
        assert [one.text for one in live.share(TURN)] == [b"one"]
        channel.tell(piece(3, "two"))
        assert [(one.offset, one.text) for one in live.share(TURN)] == [(3, b"two")]
        assert live.share(TURN) == []
        live.want([TURN], -1.0)
        live.want([TURN], 60.0)
        assert [one.text for one in live.share(TURN)] == [b"onetwo"]


def test_turn_that_ended_here_is_not_followed_elsewhere_by_who_still_watches() -> None:
    live = Live()
    now = datetime(2026, 1, 1, tzinfo=UTC)
    running = Turn(TURN, "ses_1", "agt_1", "usr_1", "", TurnState.RUNNING, Limits(), None, now)
    with live.watching(TURN):
        assert live.followed() == {TURN}
        with live.running(TURN) as channel:
            assert live.followed() == set()
            channel.stored(Known(running, ()))
        assert live.followed() == {TURN}  # another replica takes it
        with live.running(TURN) as channel:
            channel.stored(Known(replace(running, state=TurnState.COMPLETED), ()))
        assert live.followed() == set()


@given(st.text(min_size=1, max_size=400), st.integers(0, 2000))
def test_any_place_between_characters_can_be_resumed_from(text: str, place: int) -> None:
    encoded = text.encode(errors="replace")
    view = _View(TURN, Cursor(0, 1, "5-1", min(place, len(encoded))))
    message = said(1, encoded.decode(), "5-1")
    try:
        frames = list(view.take(message))
    except BadCursor:
        return  # inside a character: no frame ever gave that place
    rest = "".join(f.body.text for f in frames if isinstance(f.body, Delta))
    assert encoded[: min(place, len(encoded))] + rest.encode() == encoded


async def test_channel_wakes_watchers_and_is_forgotten() -> None:
    live = Live()
    with live.watching(TURN) as channel:
        waiting = asyncio.create_task(channel.news(channel.text_version, 0, 10))
        await asyncio.sleep(0)
        with live.running(TURN) as same:
            assert same is channel
            same.begin(1, "1-1")
            await asyncio.wait_for(waiting, 1)
        assert channel.partial is None
        live.cancel(TURN)
        assert channel.cancelled.is_set()
        await asyncio.wait_for(channel.stored_news(channel.stored_version, 0.01), 1)
    with live.watching(TURN) as fresh:
        assert fresh is not channel
        assert not fresh.cancelled.is_set()
    live.stored(TURN)  # nobody is there


def test_cursor_inside_a_character_is_refused() -> None:
    view = _View(TURN, Cursor(0, 1, "5-1", 1))
    with pytest.raises(BadCursor):
        list(view.take(said(1, "ö", "5-1")))


def test_text_seen_before_the_request_was_read_is_not_sent_again() -> None:
    live = Live()
    view = _View(TURN, Cursor())
    with live.running(TURN) as channel:
        channel.begin(1, "5-1")
        channel.add("hel")
        assert told(list(view.follow(channel))) == [(0, "hel")]
        assert list(view.take(said(0, "the request", "", Role.USER))) == []
        assert told(list(view.take(said(1, "hello", "5-1")))) == [(3, "lo"), Stored]


async def test_text_that_comes_during_a_pause_wakes_nobody_who_waits_for_steps() -> None:
    live = Live()
    with live.running(TURN) as channel:
        pause = asyncio.create_task(channel.stored_news(channel.stored_version, 10))
        text = asyncio.create_task(channel.news(channel.text_version, channel.stored_version, 10))
        await asyncio.sleep(0)
        channel.begin(1, "1-1")
        await asyncio.wait_for(text, 1)
        assert not pause.done()
        channel.stored()
        await asyncio.wait_for(pause, 1)


def test_text_comes_in_larger_pieces_the_more_turns_there_are() -> None:
    pauses = [between_deltas(turns) for turns in (0, 1, 16, 64, 1000)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-2], pauses[-1]) == (0.02, 0.05, 0.05)


def test_only_text_that_another_replica_wants_is_to_be_sent() -> None:
    live = Live()
    with live.running(TURN) as channel:
        channel.begin(1, "1-1")
        channel.add("not wanted")
        assert not live.unsent
        live.want([TURN], 60.0)
        assert live.unsent == {TURN}
        live.unsent.clear()
        live.want([TURN], -1.0)  # again, and then no more
        assert not live.unsent
        live.want([], 60.0)
        channel.add("nor this")
        assert not live.unsent
