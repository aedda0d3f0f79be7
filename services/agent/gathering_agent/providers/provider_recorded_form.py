"""Recordings as they are written: one JSON object a line, see `docs/providers.md`.

A request is recorded in a form that is the same whenever the same is asked: ids are numbered in the
order in which they appear, times in the system prompt and secrets are left out.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gathering_agent.models import JsonObject, JsonValue, Native, StopReason, ToolCall, call_id
from gathering_agent.providers.models_dialogue import (
    Answer,
    ModelEvent,
    ModelRequest,
    Said,
    TextDelta,
)

FORMAT = 1
_REDACTED = "[redacted]"
# Keys of providers and of ours, bearer tokens, JWTs. None of these can stand over a quote.
_SECRETS = re.compile(
    r"\b(?:sk|gak|grt|ginv)[-_][\w-]{16,}"
    r"|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]+"
    r"|(?i:\bbearer\s+)[\w.~+/=-]{16,}"
    r"|(?<=://)[^\s/:@\"]+:[^\s/@\"]+(?=@)"  # user and password of a URL
)
_ID = re.compile(r"\b([a-z]{3})_[0-9a-f]{32}\b")
_NUMBERED = re.compile(r"\b[a-z]{3}_#\d+")
_TIME = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?: ?UTC|Z|[+-]\d\d:\d\d)?)?"
)
_COUNTS = ("input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens", "counted")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request in its recorded form. `ids` are those that it names, by their numbers."""

    hash: str
    request: JsonObject
    ids: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and what came of it, with ids by number."""

    hash: str
    request: JsonObject
    texts: tuple[str, ...]
    answer: JsonObject


def asked(provider: str, request: ModelRequest) -> Asked:
    """Return a request in its recorded form."""
    text = _SECRETS.sub(_REDACTED, _text(_request(provider, request)))
    ids: dict[str, str] = {}
    counts: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        kind = found[1]
        if found[0] not in ids:
            counts[kind] = counts.get(kind, 0) + 1
            ids[found[0]] = f"{kind}_#{counts[kind]}"
        return ids[found[0]]

    text = _ID.sub(number, text)
    by_number = {name: real for real, name in ids.items()}
    return Asked(hashlib.sha256(text.encode()).hexdigest(), json.loads(text), by_number)


def exchange(what: Asked, events: Iterable[ModelEvent]) -> Exchange:
    """Return what was asked together with all that came."""
    numbers = {real: name for name, real in what.ids.items()}
    texts: list[str] = []
    told: JsonObject = {}
    for event in events:
        if isinstance(event, TextDelta):
            texts.append(event.text)
        else:
            told = _answer(event)
    whole = "".join(texts)
    texts = [_numbered(piece, numbers) for piece in _pieces(whole, texts)]
    return Exchange(
        what.hash, what.request, tuple(texts), json.loads(_numbered(_text(told), numbers))
    )


def replay(what: Asked, exchange: Exchange, request: ModelRequest) -> Iterator[ModelEvent]:
    """Yield what came, with the ids of this request."""
    for text in exchange.texts:
        yield TextDelta(_named(text, what.ids))
    told: dict[str, Any] = json.loads(_named(_text(exchange.answer), what.ids))
    calls = tuple(
        ToolCall(
            call_id(request.turn_id, request.step, place),
            call["tool"],
            call["arguments"],
            call.get("problem", ""),
        )
        for place, call in enumerate(told["tool_calls"])
    )
    native = told.get("native")
    yield Answer(
        calls,
        StopReason(told["stop_reason"]),
        native=None if native is None else Native(request.model, native),
        **{name: told[name] for name in _COUNTS},
    )


def as_line(exchange: Exchange) -> str:
    """Return an exchange as a line."""
    line: JsonObject = {
        "format": FORMAT,
        "hash": exchange.hash,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "request": exchange.request,
        "texts": list(exchange.texts),
        "answer": exchange.answer,
    }
    return _SECRETS.sub(_REDACTED, _text(line)) + "\n"


def of_line(line: str) -> Exchange:
    """Read a line; ValueError."""
    told = json.loads(line)
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise ValueError(f"is no recording of format {FORMAT}")
    try:
        return Exchange(told["hash"], told["request"], tuple(told["texts"]), told["answer"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"lacks {error}") from error


def _text(value: JsonValue) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _request(provider: str, request: ModelRequest) -> JsonObject:
    tools: list[JsonValue] = [
        {"name": t.name, "description": t.description, "parameters": t.parameters}
        for t in request.tools
    ]
    return {
        "provider": provider,
        "model": request.model,
        "system": _TIME.sub("(time)", request.system),
        "messages": [_filled(_said(said)) for said in request.messages],
        "tools": tools,
        "tool_use": request.tool_use.value,
        "max_output_tokens": request.max_output_tokens,
    }


def _said(said: Said) -> JsonObject:
    calls: list[JsonValue] = [
        {"tool": call.tool, "arguments": call.arguments} for call in said.tool_calls
    ]
    results: list[JsonValue] = [
        {"tool": result.tool, "text": result.text, "failed": result.failed}
        for result in said.tool_results
    ]
    native = said.native
    images: list[JsonValue] = [hashlib.sha256(image.data).hexdigest() for image in said.images]
    return {
        "role": said.role.value,
        "images": images,
        "text": said.text,
        "tool_calls": calls,
        "tool_results": results,
        "native": {"model": native.model, "content": native.content} if native else None,
    }


def _filled(value: JsonObject) -> JsonObject:
    """Leave out what says nothing, so that what is added later changes no recording of before."""
    return {name: inner for name, inner in value.items() if inner or name == "text"}


def _answer(answer: Answer) -> JsonObject:
    calls: list[JsonValue] = [
        _filled({"tool": c.tool, "problem": c.problem}) | {"arguments": c.arguments}
        for c in answer.tool_calls
    ]
    counts: JsonObject = {name: getattr(answer, name) for name in _COUNTS}
    native = answer.native.content if answer.native else None
    return {
        "stop_reason": answer.stop_reason.value,
        "tool_calls": calls,
        "native": native,
        **counts,
    }


def _pieces(whole: str, pieces: Iterable[str]) -> Iterator[str]:
    """Yield the pieces of a text, cut so that no id is cut."""
    spans = [found.span() for found in _ID.finditer(whole)]
    begin = end = 0
    for piece in pieces:
        end += len(piece)
        cut = next((last for first, last in spans if first < end < last), end)
        if cut > begin:
            yield whole[begin:cut]
        begin = max(begin, cut)


def _numbered(text: str, numbers: Mapping[str, str]) -> str:
    return _ID.sub(lambda found: numbers.get(found[0], found[0]), text)


def _named(text: str, ids: Mapping[str, str]) -> str:
    return _NUMBERED.sub(lambda found: ids.get(found[0], found[0]), text)
