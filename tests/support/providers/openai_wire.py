"""The chunks of OpenAI's chat completions."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tests.support.providers.serving import Json


def _chunk(delta: Json, finish: str | None = None, usage: Json | None = None) -> str:
    choices = [] if usage else [{"index": 0, "delta": delta, "finish_reason": finish}]
    data = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "test",
        "choices": choices,
        "usage": usage,
    }
    return f"data: {json.dumps(data)}\n\n"


def openai_events(
    texts: Sequence[str] = (),
    calls: Sequence[tuple[str, Json | str]] = (),
    *,
    finish: str | None = None,
    usage: tuple[int, int] | None = (10, 5),
    cached: Json | None = None,
    whole: bool = True,
) -> list[str]:
    """Return the chunks of one completion; `whole=False` leaves its end out.

    `cached` stands in the usage as the server names it; without `usage` it tells none.
    """
    events = [_chunk({"role": "assistant", "content": ""})]
    events += [_chunk({"content": text}) for text in texts]
    for place, (name, arguments) in enumerate(calls):
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        half = len(text) // 2
        first = {"name": name, "arguments": ""}
        events.append(_call(place, {"id": f"x{place}", "type": "function", "function": first}))
        events += [_call(place, {"function": {"arguments": t}}) for t in (text[:half], text[half:])]
    if whole:
        events.append(_chunk({}, finish or ("tool_calls" if calls else "stop")))
        if usage is not None:
            counts = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
            events.append(
                _chunk({}, usage={**counts, "total_tokens": sum(usage), **(cached or {})})
            )
        events.append("data: [DONE]\n\n")
    return events


def _call(place: int, part: Json) -> str:
    return _chunk({"tool_calls": [{"index": place, **part}]})
