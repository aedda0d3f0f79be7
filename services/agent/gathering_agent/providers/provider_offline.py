"""The offline model behind the port of the providers: no network, no randomness.

Its tokens are an own count: a token is four bytes of UTF-8, rounded up, over all that it was told
and all that it said. It is comparable over turns of this model and with no other model's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator

from gathering_agent.models import ToolCall, call_id
from gathering_agent.offline.models_outcomes import Thought
from gathering_agent.providers.models_dialogue import Answer, ModelEvent, ModelRequest, TextDelta

_BYTES_PER_TOKEN = 4
_SHORT = 8_000  # characters that take less than the way to a thread and back
_PIECE = 24  # characters at least, up to the next space


class OfflineProvider:
    """Answers by rules; see the package `offline`."""

    def __init__(self, think: Callable[[ModelRequest], Thought]) -> None:
        self._think = think

    async def aclose(self) -> None:
        """Release nothing."""

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """See `ModelProvider.stream`. The rules run in a thread: long reports take a while."""
        told = sum(map(len, _told(request)))
        if told < _SHORT:
            thought = self._think(request)
        else:
            thought = await asyncio.to_thread(self._think, request)
        for piece in _pieces(thought.text):
            yield TextDelta(piece)
            await asyncio.sleep(0)
        calls = tuple(
            ToolCall(call_id(request.turn_id, request.step, place), tool, arguments)
            for place, (tool, arguments) in enumerate(thought.calls)
        )
        yield Answer(
            tool_calls=calls,
            input_tokens=_tokens(_told(request)),
            output_tokens=_tokens((thought.text, *(json.dumps(c.arguments) for c in calls))),
        )


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = text.find(" ", start + _PIECE)
        end = len(text) if end < 0 else end + 1
        yield text[start:end]
        start = end


def _told(request: ModelRequest) -> Iterator[str]:
    yield request.system
    for said in request.messages:
        yield said.text
        yield from (json.dumps(call.arguments) for call in said.tool_calls)
        yield from (result.text for result in said.tool_results)
    for tool in request.tools:
        yield tool.name + tool.description + json.dumps(tool.parameters)


def _tokens(texts: Iterable[str]) -> int:
    size = sum(len(text.encode()) for text in texts)
    return -(-size // _BYTES_PER_TOKEN)
