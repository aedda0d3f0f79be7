"""A provider that does not tell what was used."""

from __future__ import annotations

from collections.abc import AsyncIterator

from gathering_agent.context import request_tokens, tokens
from gathering_agent.live import Live
from gathering_agent.models import Role, ToolCall
from gathering_agent.models_dialogue import (
    Answer,
    Attempt,
    ModelEvent,
    ModelRequest,
    Said,
    TextDelta,
)
from gathering_agent.speaking import Patience, Speaker

REQUEST = ModelRequest("trn_" + "0" * 32, 1, "m", "be good", (Said(Role.USER, "hello"),))


class _Uncounted:
    """Answers without usage, as some servers of OpenAI's format do."""

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        yield TextDelta("an answer")
        yield Answer((ToolCall("c", "search", {"query": "x" * 90}),), counted=False)

    async def aclose(self) -> None:
        """Release nothing."""


async def _no_failure(attempt: Attempt) -> None:
    raise AssertionError(attempt)


async def test_usage_that_was_not_told_is_bounded_by_bytes() -> None:
    with Live().running(REQUEST.turn_id) as channel:
        speaker = Speaker(_Uncounted(), channel, Patience(), _no_failure)
        spoken = await speaker.speak(REQUEST, fence=1)
    assert spoken.answer.input_tokens == request_tokens(REQUEST) > 0
    assert spoken.answer.output_tokens > tokens("an answer") + 30
