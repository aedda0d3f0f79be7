"""OpenAI's chat completions and all servers that speak them (DeepSeek, Ollama, vLLM, ...)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, cast

import httpx2
import openai
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam
from openai.types.chat.chat_completion_chunk import ChoiceDeltaToolCall

from gathering_agent.models import Role, StopReason
from gathering_agent.models_dialogue import (
    Answer,
    ModelEvent,
    ModelRequest,
    Said,
    TextDelta,
    ToolSpec,
)
from gathering_agent.provider_wire import (
    failure_of_connection,
    failure_of_status,
    read_calls,
    readable,
    wire_id,
)

OFFICIAL = "https://api.openai.com/v1"
# DeepSeek ends an answer so when it has no capacity left.
_BROKEN_OFF = {"insufficient_system_resource"}
_STOPS = {"length": StopReason.MAX_TOKENS, "content_filter": StopReason.REFUSAL}


class OpenAiProvider:
    """Streams chat completions."""

    def __init__(
        self,
        api_key: str,
        base_url: str,
        *,
        reasoning_effort: str = "",
        idle_timeout: float = 120.0,
    ) -> None:
        self._client = openai.AsyncOpenAI(
            api_key=api_key or "none",  # servers of one's own often want no key
            base_url=base_url,
            max_retries=0,
            timeout=httpx2.Timeout(idle_timeout, connect=10.0),
        )
        self._extra: dict[str, Any] = {}
        # OpenAI's own models refuse `max_tokens`, other servers do not know its successor.
        self._limit = "max_completion_tokens" if base_url == OFFICIAL else "max_tokens"
        if reasoning_effort:
            self._extra["reasoning_effort"] = reasoning_effort

    async def aclose(self) -> None:
        """Release connections."""
        await self._client.close()

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """See `ModelProvider.stream`."""
        parts = _Parts(request)
        options = {**self._extra, self._limit: request.max_output_tokens}
        if request.tools:
            options["tool_choice"] = request.tool_use.value
            # Past the SDK's walk over every level of every schema, a quarter of its own time.
            options["extra_body"] = {"tools": [_tool(tool) for tool in request.tools]}
        with _failures():
            stream = await self._client.chat.completions.create(
                model=request.model,
                messages=_messages(request),
                stream=True,
                stream_options={"include_usage": True},
                **options,
            )
            async with stream:
                async for chunk in stream:
                    with readable():
                        text = parts.take(chunk)
                    if text:
                        yield TextDelta(text)
        with readable():
            answer = parts.answer()
        yield answer


class _Parts:
    """Puts the chunks of one completion together."""

    def __init__(self, request: ModelRequest) -> None:
        self._request = request
        self._calls: dict[int, list[str]] = {}  # index -> name, arguments
        self._finish = ""
        self._refused = False
        self._usage: CompletionUsage | None = None

    def take(self, chunk: ChatCompletionChunk) -> str:
        """Take a chunk; return the text that it brings."""
        self._usage = chunk.usage or self._usage
        if not chunk.choices:
            return ""
        choice = chunk.choices[0]
        self._finish = choice.finish_reason or self._finish
        for part in choice.delta.tool_calls or ():
            self._extend(part)
        refusal = choice.delta.refusal or ""
        self._refused = self._refused or bool(refusal)
        return (choice.delta.content or "") + refusal

    def _extend(self, part: ChoiceDeltaToolCall) -> None:
        call = self._calls.setdefault(part.index, ["", ""])
        if part.function is not None:
            call[0] += part.function.name or ""
            call[1] += part.function.arguments or ""

    def answer(self) -> Answer:
        """Return the end of the call; ModelFailed when the stream was cut."""
        if not self._finish or self._finish in _BROKEN_OFF:
            raise failure_of_status(None, "the provider's stream was cut")
        stop = StopReason.REFUSAL if self._refused else _STOPS.get(self._finish, StopReason.END)
        asked = [(name, text) for _, (name, text) in sorted(self._calls.items())]
        usage = self._usage
        return Answer(
            tool_calls=read_calls(self._request, asked),
            stop_reason=stop,
            input_tokens=usage.prompt_tokens or 0 if usage else 0,
            output_tokens=usage.completion_tokens or 0 if usage else 0,
            cached_input_tokens=_cached(usage) if usage else 0,
            counted=usage is not None,
        )


def _cached(usage: CompletionUsage) -> int:
    """Return how much of the input came from the cache; DeepSeek says it in a field of its own."""
    if usage.prompt_tokens_details and usage.prompt_tokens_details.cached_tokens:
        return min(usage.prompt_tokens_details.cached_tokens, usage.prompt_tokens or 0)
    hit = (usage.model_extra or {}).get("prompt_cache_hit_tokens")
    return min(max(hit, 0), usage.prompt_tokens or 0) if isinstance(hit, int) else 0


def _tool(tool: ToolSpec) -> dict[str, Any]:
    schema = {"type": "object", "properties": {}, **tool.parameters}
    function = {"name": tool.name, "description": tool.description, "parameters": schema}
    return {"type": "function", "function": function}


def _messages(request: ModelRequest) -> list[ChatCompletionMessageParam]:
    messages: list[dict[str, Any]] = []
    if request.system:
        messages.append({"role": "system", "content": request.system})
    for said in request.messages:
        messages.extend(_said(said))
    return cast("list[ChatCompletionMessageParam]", messages)


def _said(said: Said) -> Iterator[dict[str, Any]]:
    if said.role is Role.USER:
        yield {"role": "user", "content": said.text}
    elif said.role is Role.TOOL:
        for result in said.tool_results:
            failed = "failed: " if result.failed else ""
            yield {
                "role": "tool",
                "tool_call_id": wire_id(result.call_id),
                "content": failed + result.text,
            }
    else:
        yield _assistant(said)


def _assistant(said: Said) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": said.text or None}
    if said.tool_calls:
        message["tool_calls"] = [
            {
                "id": wire_id(call.call_id),
                "type": "function",
                "function": {"name": call.tool, "arguments": json.dumps(call.arguments)},
            }
            for call in said.tool_calls
        ]
    elif not said.text:
        message["content"] = ""
    return message


@contextmanager
def _failures() -> Iterator[None]:
    """Raise what goes wrong as an error of ours."""
    try:
        yield
    except openai.APIStatusError as error:
        raise failure_of_status(
            error.status_code, _message(error), error.response.headers.get("retry-after")
        ) from error
    except (openai.APIConnectionError, httpx2.TransportError) as error:
        raise failure_of_connection(error) from error
    except openai.APIError as error:  # an error inside the stream
        raise failure_of_status(None, str(error.message)) from error
    except (openai.OpenAIError, ValueError) as error:
        raise failure_of_status(None, "the provider's answer cannot be read") from error


def _message(error: openai.APIStatusError) -> str:
    body = error.body
    return str(body.get("message", "")) if isinstance(body, dict) else ""
