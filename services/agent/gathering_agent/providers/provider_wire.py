"""What the providers' adapters share: names of calls, arguments, errors by HTTP status."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from math import isfinite
from typing import TypeVar

import aiohttp
import aiohttp.http_exceptions
import httpx2

from gathering_agent.errors import (
    ModelContextExceeded,
    ModelFailed,
    ModelNotConfigured,
    ModelRefused,
)
from gathering_agent.models import JsonObject, ToolCall, call_id
from gathering_agent.providers.models_dialogue import ModelRequest
from gathering_agent.sessions.models_images import Image
from gathering_mesh.errors import DomainError

T = TypeVar("T")
_LONGEST_WAIT = 60.0  # seconds that a provider may ask us to wait
_LONGEST_MESSAGE = 500  # characters of a provider's error that are shown
_RETRIED = {408, 409, 425, 429}
_CREDENTIALS = {401, 402, 403}
# Statuses that do not tell whether the model began: what stands between may have given up on it.
_UNKNOWN = {408, 499}
_OVERLOADED = 529  # Anthropic's, before it begins
_TOO_LARGE = 413
# How providers say that the request is longer than the model's window; only OpenAI has a code.
_OVERFLOWS = (
    "prompt is too long",  # Anthropic
    "exceed context limit",  # Anthropic, input and output limit together
    "maximum context length",  # OpenAI, DeepSeek, vLLM
    "exceeds the context length",  # Ollama
    "context window",
    "context size",  # llama.cpp
)
_OVERFLOW_CODES = {"context_length_exceeded", "exceed_context_size_error"}
_UNPAID = {"insufficient_quota"}  # OpenAI's, with a 429 that does not pass
_ODD = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST_NAME = 64  # characters of a tool's name
# What goes wrong with a connection that an SDK does not make an error of its own.
BROKEN = (
    TimeoutError,
    aiohttp.ClientError,
    aiohttp.http_exceptions.HttpProcessingError,
    httpx2.RequestError,
)
# Of aiohttp, which the SDKs speak through: above it a connection that was lost after the request
# went out is told as one that was never made.
_NOT_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


def wire_id(name: str) -> str:
    """Return a tool call's id as providers take it: at most 40 characters, no colon."""
    turn, _, place = name.partition(":")
    return f"call_{turn[-20:]}_{place.replace(':', '_')}"


def wire_tool(name: str) -> str:
    """Return the name of a tool that was asked for as providers take it.

    No granted tool has another one; a model may ask for what there is not, and documents of
    sessions bring what was asked for elsewhere. A name that is refused would end every later turn.
    """
    return _ODD.sub("_", name)[:_LONGEST_NAME] or "_"


def base64_of(image: Image) -> str:
    """Return a picture's data as all providers take it."""
    return base64.b64encode(image.data).decode()


def arguments(text: str) -> tuple[JsonObject, str]:
    """Read a tool call's arguments; return them and what is wrong with them, if anything is."""
    try:
        value = json.loads(text or "{}", parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        return {}, f"the arguments are not JSON: {error}"
    if not isinstance(value, dict):
        return {}, "the arguments are not a JSON object"
    return value, ""


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def read_calls(request: ModelRequest, asked: Iterable[tuple[str, str]]) -> tuple[ToolCall, ...]:
    """Return the tool calls of an answer, named by their place."""
    calls = []
    for place, (tool, text) in enumerate(asked):
        values, problem = arguments(text)
        calls.append(ToolCall(call_id(request.turn_id, request.step, place), tool, values, problem))
    return tuple(calls)


async def timely(events: AsyncIterable[T], seconds: float) -> AsyncIterator[T]:
    """Yield what comes, each within so many seconds; TimeoutError.

    The SDKs' own bound ends with a connection that breaks inside a chunk, and nobody is told.
    """
    source = aiter(events)
    while True:
        try:
            async with asyncio.timeout(seconds):
                one = await anext(source)
        except StopAsyncIteration:
            return
        yield one


@contextmanager
def readable() -> Iterator[None]:
    """Raise ModelFailed where what came has not the form of the API: the SDKs do not check it."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise failure_of_status(None, "the provider's answer cannot be read") from error


def failure_of_status(
    status: int | None, message: str, retry_after: str | None = None, code: object = None
) -> DomainError:
    """Return the error for an HTTP status of a provider (None: there was no answer).

    `code` is what the provider calls it. A refusal (4xx) means that the model did not begin, so
    that nothing was used: see `docs/adr/0007`.
    """
    said = message[:_LONGEST_MESSAGE] or "no reason given"
    if status is None or status < 400:  # noqa: PLR2004 (inside a stream that began well)
        return ModelContextExceeded(said) if _overflows(said, code) else ModelFailed(said)
    error = _refusal(status, said, retry_after, code)
    server_fault = status >= 500 and status != _OVERLOADED  # noqa: PLR2004 (HTTP's border)
    error.refused = not (server_fault or status in _UNKNOWN)
    return error


def _overflows(said: str, code: object) -> bool:
    return code in _OVERFLOW_CODES or any(words in said.lower() for words in _OVERFLOWS)


def failure_of_connection(error: Exception) -> DomainError:
    """Return the error for a connection that broke, or never was: an SDK's, with its cause."""
    failed = ModelFailed("the provider cannot be reached or hung up")
    failed.unsent = any(isinstance(cause, _NOT_CONNECTED) for cause in _causes(error))
    return failed


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _refusal(
    status: int, said: str, retry_after: str | None, code: object
) -> ModelFailed | ModelNotConfigured | ModelRefused:
    if status in _CREDENTIALS or code in _UNPAID:
        return ModelNotConfigured(f"the provider refuses the credentials ({status}): {said}")
    if status == _TOO_LARGE or (status not in _RETRIED and _overflows(said, code)):
        return ModelContextExceeded(said)
    if status in _RETRIED or status >= 500:  # noqa: PLR2004 (HTTP's border)
        return ModelFailed(
            f"the provider answered {status}: {said}", retry_after=_wait(retry_after)
        )
    return ModelRefused(f"the provider refuses the request ({status}): {said}")


def _wait(header: str | None) -> float | None:
    """Return the seconds of a Retry-After header; dates are left to our own backoff."""
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return min(max(seconds, 0.0), _LONGEST_WAIT) if isfinite(seconds) else None
