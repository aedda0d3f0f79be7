"""Documents of sessions, and the pause before a turn: pure parts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gathering_agent.context.resuming import RESTED, pause_before
from gathering_agent.errors import ArchiveTooLarge
from gathering_agent.models import Role
from gathering_agent.sessions.archives import problems
from gathering_agent.sessions.convert import LARGEST_ARCHIVE, archive_message, archive_of
from gathering_agent.sessions.models import (
    Archive,
    ArchivedCall,
    ArchivedMessage,
    ArchivedResult,
)
from tests.unit.agent.test_agent_context import message

NOW = datetime(2026, 1, 5, tzinfo=UTC)
words = st.text(max_size=5)
calls = st.builds(ArchivedCall, tool=words, arguments=st.dictionaries(words, words, max_size=2))
messages = st.builds(
    ArchivedMessage,
    role=st.sampled_from(Role),
    text=words,
    tool_calls=st.lists(calls, max_size=2).map(tuple),
    tool_results=st.lists(st.builds(ArchivedResult, words, st.booleans()), max_size=2).map(tuple),
    images=st.lists(st.binary(min_size=1, max_size=9), max_size=2).map(tuple),
    create_time=st.none() | st.just(NOW),
    step=st.integers(0, 1000),
)


@given(st.builds(Archive, title=words, messages=st.lists(messages, max_size=3).map(tuple)))
def test_document_comes_back_as_it_was(archive: Archive) -> None:
    assert archive_of(archive_message(archive)) == archive


def test_document_that_is_too_large_is_neither_made_nor_taken() -> None:
    long = ArchivedMessage(Role.USER, "x" * LARGEST_ARCHIVE)
    many = ArchivedMessage(Role.USER, "x")
    for told in ((long,), (many,) * 10_001):
        with pytest.raises(ArchiveTooLarge):
            archive_message(Archive("t", told))


def test_dialogue_with_answered_and_unanswered_calls_has_no_problems() -> None:
    call = ArchivedCall("echo", {})
    said = (
        ArchivedMessage(Role.USER, "go"),
        ArchivedMessage(Role.ASSISTANT, tool_calls=(call, call)),
        ArchivedMessage(Role.TOOL, tool_results=(ArchivedResult("a"), ArchivedResult("b", True))),
        ArchivedMessage(Role.ASSISTANT, tool_calls=(call,)),
        ArchivedMessage(Role.USER, "never mind"),
    )
    assert list(problems(Archive("t", said))) == []
    assert dict(problems(Archive("t", said[1:]))) == {
        "archive.messages[0].role": "must be USER in the first message"
    }


def test_times_that_go_back_are_named() -> None:
    said = (
        ArchivedMessage(Role.USER, "a", create_time=NOW),
        ArchivedMessage(Role.ASSISTANT, "b"),
        ArchivedMessage(Role.USER, "c", create_time=NOW - timedelta(seconds=1)),
    )
    assert list(dict(problems(Archive("t", said)))) == ["archive.messages[2].create_time"]


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (RESTED - timedelta(seconds=1), None),
        (RESTED, "1 hour"),
        (timedelta(hours=23), "23 hours"),
        (timedelta(days=1), "1 day"),
        (timedelta(days=9, hours=23), "9 days"),
    ],
)
def test_pause_is_told_from_an_hour_on(length: timedelta, words: str | None) -> None:
    history = [
        message(1, Role.USER, "a", "trn_1", create_time=NOW - length),
        message(2, Role.USER, "b", "trn_2", create_time=NOW),
        message(3, Role.ASSISTANT, "c", "trn_2", create_time=NOW + timedelta(days=1)),
    ]
    pause = pause_before(history, "trn_2")
    assert (pause.words if pause else None) == words


def test_first_turn_of_a_session_begins_without_a_pause() -> None:
    assert pause_before([message(1, Role.USER, "a", create_time=NOW)], "trn_2") is None
