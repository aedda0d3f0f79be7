"""Exchanges that are recorded once and replayed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gathering_agent.errors import ModelFailed, NotRecorded
from gathering_agent.models import Native, Role, ToolCall, call_id
from gathering_agent.providers.models_dialogue import (
    Answer,
    ModelEvent,
    ModelRequest,
    Said,
    TextDelta,
)
from gathering_agent.providers.provider_recorded import RecordedProvider
from tests.support.providers.kinds import asked

OTHER_TURN = "trn_" + "7" * 32


@dataclass
class Model:
    """Says something about the id that it is told, as a model would, cut anywhere."""

    asked: list[ModelRequest] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        self.asked.append(request)
        if self.failures:
            raise self.failures.pop()
        name = request.messages[0].text.split()[-1]
        for piece in ("I forget ", name[:9], name[9:], " now."):
            yield TextDelta(piece)
        call = ToolCall(call_id(request.turn_id, request.step, 0), "forget", {"memory_id": name})
        yield Answer((call,), input_tokens=3, output_tokens=2, native=Native("test", [{"x": name}]))

    async def aclose(self) -> None:
        """Release nothing."""


async def _said(model: RecordedProvider, request: ModelRequest) -> list[ModelEvent]:
    return [event async for event in model.stream(request)]


def _text(events: list[ModelEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def _forget(name: str, **changes: object) -> ModelRequest:
    return asked(Said(Role.USER, f"Forget mem_{name * 32}"), **changes)


async def test_exchange_is_asked_for_once_and_replayed_with_the_ids_of_another_day(
    tmp_path: Path,
) -> None:
    model = Model()
    recording = RecordedProvider("some", tmp_path, model)
    first, again = [await _said(recording, _forget("a")) for _ in range(2)]
    assert _text(first) == _text(again) == f"I forget mem_{'a' * 32} now."
    assert first[-1] == again[-1]
    assert len(model.asked) == 1
    events = await _said(
        RecordedProvider("some", tmp_path, None), _forget("b", turn_id=OTHER_TURN, step=1)
    )
    assert _text(events) == f"I forget mem_{'b' * 32} now."
    (answer,) = [event for event in events if isinstance(event, Answer)]
    assert answer.tool_calls[0].call_id == f"{OTHER_TURN}:1:0"
    assert answer.tool_calls[0].arguments == {"memory_id": f"mem_{'b' * 32}"}
    assert answer.native == Native("test", [{"x": f"mem_{'b' * 32}"}])
    assert (answer.input_tokens, answer.output_tokens, answer.counted) == (3, 2, True)


async def test_what_is_missing_is_refused_and_says_what_differs(tmp_path: Path) -> None:
    await _said(RecordedProvider("some", tmp_path, Model()), asked(system="be good"))
    replaying = RecordedProvider("some", tmp_path, None)
    request = asked(Said(Role.USER, "hello there"), system="be good", max_output_tokens=1)
    with pytest.raises(NotRecorded) as caught:
        await _said(replaying, request)
    assert caught.value.refused
    assert "max_output_tokens: recorded …4096…, asked …1…" in caught.value.message
    assert 'messages[0].text: recorded …"hello"…, asked …"hello there"…' in caught.value.message
    assert str(tmp_path / "some.jsonl") in caught.value.message
    with pytest.raises(NotRecorded, match="nothing of other is recorded"):
        await _said(RecordedProvider("other", tmp_path, None), request)


async def test_times_of_the_system_prompt_make_no_difference_and_those_of_users_do(
    tmp_path: Path,
) -> None:
    recording = RecordedProvider("some", tmp_path, Model())
    await _said(
        recording, asked(Said(Role.USER, "on 2026-01-01"), system="It is 2026-01-01 10:00 UTC.")
    )
    replaying = RecordedProvider("some", tmp_path, None)
    later = "It is 2027-02-03 11:30 UTC."
    assert await _said(replaying, asked(Said(Role.USER, "on 2026-01-01"), system=later))
    with pytest.raises(NotRecorded):
        await _said(replaying, asked(Said(Role.USER, "on 2026-01-02"), system=later))


async def test_failure_is_not_recorded(tmp_path: Path) -> None:
    model = Model(failures=[ModelFailed("busy")])
    recording = RecordedProvider("some", tmp_path, model)
    with pytest.raises(ModelFailed):
        await _said(recording, asked())
    with pytest.raises(NotRecorded):
        await _said(RecordedProvider("some", tmp_path, None), asked())
    assert await _said(recording, asked())


async def test_file_holds_no_secrets_and_they_make_no_difference(tmp_path: Path) -> None:
    keys = ["sk-ant-" + "x" * 20, "gak_0123_" + "y" * 40, "eyJhbGciOiJFUzI1NiJ9.e30.c2ln"]
    await _said(
        RecordedProvider("some", tmp_path, Model()), asked(Said(Role.USER, f"use {' '.join(keys)}"))
    )
    text = (tmp_path / "some.jsonl").read_text()
    assert not [key for key in keys if key in text]
    others = ["sk-ant-" + "z" * 30, "gak_4567_" + "w" * 40, "eyJhbGciOiJFUzI1NiJ9.e31.c2lo"]
    replaying = RecordedProvider("some", tmp_path, None)
    assert await _said(replaying, asked(Said(Role.USER, f"use {' '.join(others)}")))


async def test_line_that_was_not_written_to_its_end_is_skipped(tmp_path: Path) -> None:
    recording = RecordedProvider("some", tmp_path, Model())
    await _said(recording, asked())
    file = tmp_path / "some.jsonl"
    file.write_text(file.read_text() + '{"format": 1, "ha')  # the process died here
    again = RecordedProvider("some", tmp_path, Model())
    assert await _said(again, _forget("a"))
    replaying = RecordedProvider("some", tmp_path, None)
    assert await _said(replaying, asked())
    assert await _said(replaying, _forget("a"))


@pytest.mark.parametrize("line", [{"format": 2}, {"format": 1, "hash": "x"}, [1]])
def test_file_of_another_form_is_refused_with_its_line(tmp_path: Path, line: object) -> None:
    (tmp_path / "some.jsonl").write_text(f"\n{json.dumps(line)}\n")
    with pytest.raises(ValueError, match=r"some.jsonl, line 2: "):
        RecordedProvider("some", tmp_path, None)
