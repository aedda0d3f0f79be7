"""The events of Anthropic's Messages API."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tests.support.providers.serving import Json

_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def _sse(kind: str, data: Json) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n"


def anthropic_events(
    texts: Sequence[str] = (),
    calls: Sequence[tuple[str, Json | str]] = (),
    *,
    stop: str | None = None,
    thinking: str | None = None,
    usage: tuple[int, int] = (10, 5),
    whole: bool = True,
) -> list[str]:
    """Return the events of one message; `whole=False` leaves its end out.

    Of the input 3 tokens more come from the cache, and 2 more go into it.
    """
    events = [_sse("message_start", {"message": _message_start(usage[0])}), _sse("ping", {})]
    index = 0
    if thinking is not None:
        block: Json = {"type": "thinking", "thinking": "", "signature": ""}
        events += _block(index, block, [
            {"type": "thinking_delta", "thinking": thinking},
            {"type": "signature_delta", "signature": "signed"},
        ])  # fmt: skip
        index += 1
    if texts:
        deltas = [{"type": "text_delta", "text": text} for text in texts]
        events += _block(index, {"type": "text", "text": ""}, deltas)
        index += 1
    for place, (name, arguments) in enumerate(calls):
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        half = len(text) // 2
        block = {"type": "tool_use", "id": f"toolu_{place}", "name": name, "input": {}}
        events += _block(index, block, [
            {"type": "input_json_delta", "partial_json": text[:half]},
            {"type": "input_json_delta", "partial_json": text[half:]},
        ])  # fmt: skip
        index += 1
    if whole:
        reason = stop or ("tool_use" if calls else "end_turn")
        delta = {"stop_reason": reason, "stop_sequence": None}
        events.append(_sse("message_delta", {"delta": delta, "usage": {"output_tokens": usage[1]}}))
        events.append(_sse("message_stop", {}))
    return events


def _message_start(input_tokens: int) -> Json:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-test",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": input_tokens,
            "cache_read_input_tokens": 3,
            "cache_creation_input_tokens": 2,
            "output_tokens": 1,
        },
    }


def _block(index: int, block: Json, deltas: Sequence[Json]) -> list[str]:
    return [
        _sse("content_block_start", {"index": index, "content_block": block}),
        *(_sse("content_block_delta", {"index": index, "delta": delta}) for delta in deltas),
        _sse("content_block_stop", {"index": index}),
    ]


def anthropic_error(status: int, message: str) -> Json:
    """Return the body of an error, which an event of a stream can be as well."""
    error = {"type": _ERRORS.get(status, "api_error"), "message": message}
    return {"type": "error", "error": error, "request_id": "req_1"}


def anthropic_broken(message: str) -> list[str]:
    """Return the event of an overload in mid-stream."""
    return [f"event: error\ndata: {json.dumps(anthropic_error(529, message))}\n\n"]
