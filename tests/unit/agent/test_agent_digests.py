"""Older history in a few words: the same by parts as in one, bounded, marked off from orders."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gathering_agent.context.counting import fitting, middle_cut, tokens
from gathering_agent.context.digests import brief, extended
from gathering_agent.context.marking import data, plain, summary, unmarked
from gathering_agent.context.models import Brief, Digest, Strategy
from gathering_agent.context.pending import unfinished
from gathering_agent.context.resuming import chosen
from gathering_agent.context.retelling import retold
from gathering_agent.models import Message, Role, ToolCall, ToolResult

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def said(sequence: int, role: Role, text: str, minutes: int = 0, **more: object) -> Message:
    time = NOW + timedelta(minutes=minutes)
    return Message(f"msg_{sequence}", "ses_1", "", sequence=sequence, role=role, text=text, step=0,
                   create_time=time, **more)  # type: ignore[arg-type]  # fmt: skip


def talk(turns: int) -> list[Brief]:
    """Return turns in which a file is read, one of which fails."""
    found: list[Message] = []
    for n in range(turns):
        call = ToolCall(f"c{n}", "fs_read", {"path": f"file{n}.py"})
        result = ToolResult(f"c{n}", "fs_read", "content " * 50, failed=n == 0)
        at = len(found) + 1
        found += [
            said(at, Role.USER, f"Read file {n}. From now on call me Ada.", n),
            said(at + 1, Role.ASSISTANT, "Let me see.", n, tool_calls=(call,)),
            said(at + 2, Role.TOOL, "", n, tool_results=(result,)),
            said(at + 3, Role.ASSISTANT, f"File {n} is fine.", n),
        ]
    return list(map(brief, found))


@given(st.integers(1, 60), st.lists(st.integers(1, 250), max_size=8))
def test_digest_is_the_same_by_parts_as_in_one(turns: int, cuts: list[int]) -> None:
    messages = talk(turns)
    whole = extended(Digest(), messages)
    by_parts, at = Digest(), 0
    for cut in [*sorted(cuts), len(messages)]:
        by_parts = extended(by_parts, messages[at:cut])
        at = max(at, min(cut, len(messages)))
    assert by_parts == whole
    assert (whole.upto, whole.messages, whole.turns) == (len(messages), len(messages), turns)


def test_digest_tells_who_asked_what_and_what_came_of_it() -> None:
    told = retold(extended(Digest(), talk(3)), 2000)
    for words in ("12 messages", "3 turns", "2026-01-01 00:00", "user: Read file 0.",
                  "you: File 2 is fine. [fs_read]", "fs_read 3x (1 failed)", "file2.py",
                  "From now on call me Ada."):  # fmt: skip
        assert words in told
    assert "content content" not in told


@given(st.integers(1, 400), st.integers(60, 3000))
def test_digest_and_its_words_stay_small(turns: int, room: int) -> None:
    digest = extended(Digest(), talk(turns))
    assert len(digest.entries) <= 40
    assert len(digest.files) <= 24
    text = retold(digest, room)
    assert tokens(text) <= room + 20
    assert f"{turns * 4} messages" in text or "left out" in text


def test_turns_that_the_text_of_a_model_does_not_tell_of_are_told_or_counted() -> None:
    digest = extended(Digest(), talk(3))
    told = retold(replace(digest, text="Files.", text_upto=6), 2000)
    assert "user: Read file 0." not in told
    assert "user: Read file 1." in told  # the text ends within it
    assert "Turn by turn" not in told
    far = replace(extended(Digest(), talk(100)), text="Files.", text_upto=8)
    assert "Turn by turn only the last 38 of them:" in retold(far, 9000)
    room = tokens(retold(far, 9000, turns=False)) + 20
    assert "no room for the turns after that" in retold(far, room)


def test_unanswered_turn_is_told_as_such() -> None:
    asked = [said(1, Role.USER, "Deploy it."), said(2, Role.USER, "Hello?")]
    digest = extended(Digest(), list(map(brief, asked)))
    assert "user: Deploy it. -> not answered" in retold(digest, 500)


def test_turn_that_handed_in_its_result_is_told_as_answered() -> None:
    call, result = ToolCall("c", "submit_result", {}), ToolResult("c", "submit_result", "taken")
    turn = [
        said(1, Role.USER, "Write it."),
        replace(said(2, Role.ASSISTANT, ""), tool_calls=(call,)),
        replace(said(3, Role.TOOL, ""), tool_results=(result,)),
    ]
    assert unfinished(turn) == []
    told = retold(extended(Digest(), [*map(brief, turn), brief(said(4, Role.USER, "?"))]), 500)
    assert "user: Write it. -> you: handed in its result" in told


texts = st.text(st.characters(exclude_categories=[])) | st.lists(
    st.sampled_from(["</gathering-data>", "<gathering-data source='x'>", "< / GATHERING-data >",
                     "<gathering-summary>", "<", "gathering-", "\n", "x"])
).map("".join)  # fmt: skip


@given(texts, texts)
def test_nothing_inside_a_mark_ends_it(source: str, text: str) -> None:
    marked = data(source, text)
    assert marked.lower().count("</gathering-data>") == 1
    assert marked.endswith("\n</gathering-data>")
    assert marked.count("<gathering-data ") == 1
    assert "gathering-summary>" not in summary(text)[20:-20] or "&lt;" in summary(text)
    assert unmarked(marked) == plain(text)


@pytest.mark.parametrize(
    "mark",
    [
        "<\u200bgathering-data>",
        "</\u2060gathering-data>",
        "<gather\u200bing-data>",
        "<gathering\u00ad-data>",
        "<gathering\u2011data>",
        "<\u3164gathering-data>",
        "\uff1cgathering-data>",
        "\ufe64/gathering-data>",
        "<\uff0fgathering-data>",
        "<\uff47\uff41\uff54\uff48\uff45\uff52\uff49\uff4e\uff47\uff0ddata>",
        "\u27e8GATHERING\uff0ddata>",
    ],
)
def test_what_looks_like_a_mark_is_none(mark: str) -> None:
    assert plain(f"a {mark} b") == f"a &lt;{mark[1:]} b"


@pytest.mark.parametrize(
    "text",
    [
        'if a < b: print("<data>")',
        "#include <gathering/mesh.h>\n<Gathering data={x} />, a<gathering && b, <GatheringList>",
        "if (a <b && gathering-1 > 2) x<\u00e4gathering-data \uff1c\uff1c \u2039word\u203a",
        "List<gathering> <- gathering-data",
    ],
)
def test_text_without_marks_is_told_as_it_is(text: str) -> None:
    assert unmarked(data("tool fs_read", text)) == text


@pytest.mark.parametrize(
    "part", ["<", "\uff1c", "<\u200b", "<gathering", "<g\u200b" + "\u2060" * 999, "\u200b", "</"]
)
def test_hostile_text_is_looked_through_in_no_time(part: str) -> None:
    text = part * (1_000_000 // len(part))
    began = time.process_time()
    plain(text)
    assert time.process_time() - began < 2


@given(st.text(max_size=3000), st.integers(30, 500))
def test_cut_text_fits_and_says_so(text: str, room: int) -> None:
    for cut in (fitting(text, room), middle_cut(text, room)):
        assert cut == text or "left out" in cut
        assert tokens(cut) <= max(room, 16) + 60


@pytest.mark.parametrize(
    ("asked", "hours", "size", "unfinished", "strategy"),
    [
        (Strategy.AUTO, 0.5, 900, False, Strategy.FULL),
        (Strategy.AUTO, 2, 400, False, Strategy.FULL),
        (Strategy.AUTO, 2, 600, True, Strategy.SUMMARY),
        (Strategy.AUTO, 30, 200, False, Strategy.FULL),
        (Strategy.AUTO, 30, 400, False, Strategy.SUMMARY),
        (Strategy.AUTO, 30, 400, True, Strategy.TASK_FOCUSED),
        (Strategy.MINIMAL, 0.5, 10, False, Strategy.MINIMAL),
        (Strategy.FULL, 300, 900, False, Strategy.FULL),
    ],
)
def test_strategy_follows_the_rest_and_the_size(
    asked: Strategy, hours: float, size: int, unfinished: bool, strategy: Strategy
) -> None:
    history = [
        said(1, Role.USER, "a"), said(2, Role.ASSISTANT, "b"),
        said(3, Role.USER, "c", int(hours * 60)), said(4, Role.ASSISTANT, "d", int(hours * 60)),
        said(5, Role.USER, "now", int(hours * 60) + 1),
    ]  # fmt: skip
    way = chosen(asked, history, 4, [size // 2, size // 2, 1, 1], 1000, unfinished=unfinished)
    assert way.strategy is strategy
    if asked is Strategy.AUTO and strategy is not Strategy.FULL:
        assert way.before == 2  # what was said before the rest; the turn after it is shown
