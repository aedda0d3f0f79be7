"""The chunks of OpenAI's chat completions, and of the servers that speak them with a difference."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.support.providers.serving import Json


@dataclass(frozen=True)
class Dialect:
    """What a server does in its own way."""

    thoughts: str = ""  # the name of its reasoning
    cached: Json = field(default_factory=dict)  # stands in the usage
    whole_calls: bool = False  # calls come in one piece each, all with the index 0
    ids: bool = True
    usage_at_the_end: bool = True  # in a chunk of its own, behind the one with the reason
    comments: bool = False  # keeps the connection open by comments
    numeric_codes: bool = False  # of errors


OPENAI = Dialect(cached={"prompt_tokens_details": {"cached_tokens": 4}})
DEEPSEEK = Dialect(
    thoughts="reasoning_content",
    cached={"prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 6},
    usage_at_the_end=False,
    comments=True,
)
OLLAMA = Dialect(thoughts="reasoning", whole_calls=True)
VLLM = Dialect(thoughts="reasoning", ids=False, numeric_codes=True)


def openai_events(
    texts: Sequence[str] = (),
    calls: Sequence[tuple[str, Json | str]] = (),
    *,
    dialect: Dialect = OPENAI,
    stop: str | None = None,
    thinking: str | None = None,
    usage: tuple[int, int] | None = (10, 5),
    whole: bool = True,
) -> list[str]:
    """Return the chunks of one completion; `whole=False` leaves its end out.

    Without `usage` it tells none.
    """
    events = [": keep-alive\n\n"] if dialect.comments else []
    events.append(_chunk({"role": "assistant", "content": ""}))
    if thinking is not None and dialect.thoughts:
        half = len(thinking) // 2
        events += [
            _chunk({dialect.thoughts: piece, "content": None})
            for piece in (thinking[:half], thinking[half:])
        ]
    events += [_chunk({"content": text}) for text in texts]
    for place, (name, arguments) in enumerate(calls):
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        events += _call(dialect, place, name, text)
    if whole:
        counts = _usage(dialect, usage)
        last = None if dialect.usage_at_the_end else counts
        events.append(_chunk({}, stop or ("tool_calls" if calls else "stop"), last))
        if dialect.usage_at_the_end and counts:
            events.append(_chunk(None, usage=counts))
        events.append("data: [DONE]\n\n")
    return events


def openai_error(dialect: Dialect, status: int, message: str, code: str | None) -> Json:
    """Return the body of an error."""
    told = status if dialect.numeric_codes else code
    return {"error": {"message": message, "type": "error", "param": None, "code": told}}


def openai_broken(message: str) -> list[str]:
    """Return the chunks of a server that fails in mid-stream."""
    error = {"message": message, "type": "server_error", "code": None}
    return [f"data: {json.dumps({'error': error})}\n\n", "data: [DONE]\n\n"]


def _chunk(delta: Json | None, finish: str | None = None, usage: Json | None = None) -> str:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    data = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "test",
        "choices": choices,
        "usage": usage,
    }
    return f"data: {json.dumps(data)}\n\n"


def _usage(dialect: Dialect, usage: tuple[int, int] | None) -> Json | None:
    if usage is None:
        return None
    counts = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return {**counts, "total_tokens": sum(usage), **dialect.cached}


def _call(dialect: Dialect, place: int, name: str, text: str) -> list[str]:
    named: Json = {"type": "function", "id": f"call_{place}" if dialect.ids else None}
    if dialect.whole_calls:
        whole = {**named, "function": {"name": name, "arguments": text}}
        return [_part({"index": 0, **whole})]
    half = len(text) // 2
    return [
        _part({"index": place, **named, "function": {"name": name, "arguments": ""}}),
        *(_more(place, piece) for piece in (text[:half], text[half:])),
    ]


def _more(place: int, text: str) -> str:
    return _part({"index": place, "function": {"arguments": text}})


def _part(call: Mapping[str, object]) -> str:
    return _chunk({"tool_calls": [call]})
