"""OpenAI's chat completions and all servers that speak them (DeepSeek, Ollama, vLLM, ...)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import httpx2
import openai

from gathering_agent.models import Native, Role, StopReason
from gathering_agent.providers.models_dialogue import (
    Answer,
    ModelEvent,
    ModelRequest,
    Said,
    TextDelta,
    ToolSpec,
)
from gathering_agent.providers.provider_wire import (
    BROKEN,
    base64_of,
    failure_of_connection,
    failure_of_status,
    read_calls,
    readable,
    timely,
    wire_id,
    wire_tool,
)

OFFICIAL = "https://api.openai.com/v1"
# So DeepSeek ends an answer when it has no capacity left, and vLLM one that it gave up.
_BROKEN_OFF = {"insufficient_system_resource", "abort", "error"}
_STOPS = {"length": StopReason.MAX_TOKENS, "content_filter": StopReason.REFUSAL}
# What a model thought: DeepSeek's name for it, and that of Ollama and vLLM.
_THOUGHTS = ("reasoning_content", "reasoning")
_Json = Mapping[str, Any]


class OpenAiProvider:
    """Streams chat completions."""

    def __init__(
        self,
        api_key: str,
        base_url: str,
        *,
        reasoning_effort: str = "",
        wants_thoughts: bool = False,
        idle_timeout: float = 120.0,
    ) -> None:
        """`wants_thoughts`: as DeepSeek, which refuses tool calls without what was thought."""
        self._idle_timeout = idle_timeout
        self._client = openai.AsyncOpenAI(
            api_key=api_key or "none",  # servers of one's own often want no key
            base_url=base_url,
            max_retries=0,
            timeout=httpx2.Timeout(idle_timeout, connect=10.0),
            http_client=openai.DefaultAioHttpClient(),
        )
        self._wants_thoughts = wants_thoughts
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
        with _failures():
            # Of the SDK's own time three fifths go to a walk over every level of the request, and
            # to a model of its own for each chunk: plain JSON passes both.
            async with asyncio.timeout(self._idle_timeout):
                stream = await self._client.post(
                    "/chat/completions",
                    body=self._body(request),
                    cast_to=object,
                    stream=True,
                    stream_cls=openai.AsyncStream[object],
                )
            async with stream:
                async for chunk in timely(stream, self._idle_timeout):
                    with readable():
                        text = parts.take(cast("_Json", chunk))
                    if text:
                        yield TextDelta(text)
        with readable():
            answer = parts.answer()
        yield answer

    def _body(self, request: ModelRequest) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": request.model,
            "messages": _messages(request, wants_thoughts=self._wants_thoughts),
            "stream": True,
            "stream_options": {"include_usage": True},
            self._limit: request.max_output_tokens,
            **self._extra,
        }
        if request.tools:
            body["tools"] = [_tool(tool) for tool in request.tools]
            body["tool_choice"] = request.tool_use.value
        return body


@dataclass(slots=True)
class _Asked:
    """A tool call as it comes in."""

    id: str
    name: str = ""
    arguments: str = ""


class _Parts:
    """Puts the chunks of one completion together."""

    def __init__(self, request: ModelRequest) -> None:
        self._request = request
        self._calls: list[_Asked] = []
        self._open: dict[int | None, _Asked] = {}  # by index
        self._thoughts: dict[str, str] = {}  # by what the server calls them
        self._finish = ""
        self._refused = False
        self._usage: _Json | None = None

    def take(self, chunk: _Json) -> str:
        """Take a chunk, a JSON object of any form; return the text that it brings."""
        self._usage = chunk.get("usage") or self._usage
        if not chunk.get("choices"):
            return ""
        choice = chunk["choices"][0]
        self._finish = choice.get("finish_reason") or self._finish
        delta = choice.get("delta") or {}
        for part in delta.get("tool_calls") or ():
            self._extend(part)
        for name in _THOUGHTS:
            thought = delta.get(name)
            if isinstance(thought, str):  # an empty one says that the model may have thought
                self._thoughts[name] = self._thoughts.get(name, "") + thought
        refusal = delta.get("refusal") or ""
        self._refused = self._refused or bool(refusal)
        return (delta.get("content") or "") + refusal

    def _extend(self, part: _Json) -> None:
        """Add to the call that is open at this index, or open one.

        Ollama gives every call the index 0, and some servers give no ids.
        """
        function = part.get("function") or {}
        name, given = function.get("name") or "", part.get("id") or ""
        call = self._open.get(part.get("index"))
        if call is None or _begins_another(call, given, name):
            call = self._open[part.get("index")] = _Asked(given)
            self._calls.append(call)
        call.name += name
        call.arguments += function.get("arguments") or ""

    def answer(self) -> Answer:
        """Return the end of the call; ModelFailed when the stream was cut."""
        if not self._finish or self._finish in _BROKEN_OFF:
            raise failure_of_status(None, "the provider's stream was cut")
        stop = StopReason.REFUSAL if self._refused else _STOPS.get(self._finish, StopReason.END)
        usage = self._usage
        return Answer(
            tool_calls=read_calls(self._request, [(c.name, c.arguments) for c in self._calls]),
            stop_reason=stop,
            input_tokens=usage.get("prompt_tokens") or 0 if usage else 0,
            output_tokens=usage.get("completion_tokens") or 0 if usage else 0,
            native=Native(self._request.model, [{**self._thoughts}]) if self._thoughts else None,
            cached_input_tokens=_cached(usage) if usage else 0,
            counted=usage is not None,
        )


def _begins_another(call: _Asked, other_id: str, name: str) -> bool:
    if other_id and call.id:
        return other_id != call.id
    return bool(name and call.arguments)


def _cached(usage: _Json) -> int:
    """Return how much of the input came from the cache; DeepSeek says it in a field of its own."""
    most = usage.get("prompt_tokens") or 0
    if cached := (usage.get("prompt_tokens_details") or {}).get("cached_tokens"):
        return int(min(cached, most))
    hit = usage.get("prompt_cache_hit_tokens")
    return int(min(max(hit, 0), most)) if isinstance(hit, int) else 0


def _tool(tool: ToolSpec) -> dict[str, Any]:
    schema = {"type": "object", "properties": {}, **tool.parameters}
    function = {"name": tool.name, "description": tool.description, "parameters": schema}
    return {"type": "function", "function": function}


def _messages(request: ModelRequest, *, wants_thoughts: bool) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if request.system:
        messages.append({"role": "system", "content": request.system})
    for said in request.messages:
        if said.role is Role.ASSISTANT:
            messages.append(_assistant(said) | _thoughts(request, said, wanted=wants_thoughts))
        else:
            messages.extend(_told(said))
    return messages


def _told(said: Said) -> Iterator[dict[str, Any]]:
    if said.role is Role.USER:
        yield {"role": "user", "content": _shown(said) if said.images else said.text}
    for result in said.tool_results:
        failed = "failed: " if result.failed else ""
        yield {
            "role": "tool",
            "tool_call_id": wire_id(result.call_id),
            "content": failed + result.text,
        }


def _shown(said: Said) -> list[dict[str, Any]]:
    urls = [f"data:{image.media_type};base64,{base64_of(image)}" for image in said.images]
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [*images, {"type": "text", "text": said.text}]


def _assistant(said: Said) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": said.text or None}
    if said.tool_calls:
        message["tool_calls"] = [
            {
                "id": wire_id(call.call_id),
                "type": "function",
                "function": {"name": wire_tool(call.tool), "arguments": json.dumps(call.arguments)},
            }
            for call in said.tool_calls
        ]
    elif not said.text:
        message["content"] = ""
    return message


def _thoughts(request: ModelRequest, said: Said, *, wanted: bool) -> dict[str, Any]:
    """Return what the model itself thought when it said so, in the server's words."""
    if said.native is not None and said.native.model == request.model:
        given = said.native.content[0] if said.native.content else None
        return given if isinstance(given, dict) else {}
    return {_THOUGHTS[0]: ""} if wanted and said.tool_calls else {}


@contextmanager
def _failures() -> Iterator[None]:
    """Raise what goes wrong as an error of ours."""
    try:
        yield
    except openai.APIStatusError as error:
        raise failure_of_status(
            error.status_code,
            _message(error),
            error.response.headers.get("retry-after"),
            code=error.code,
        ) from error
    except (openai.APIConnectionError, *BROKEN) as error:
        raise failure_of_connection(error) from error
    except openai.APIError as error:  # an error inside the stream
        raise failure_of_status(None, str(error.message), code=error.code) from error
    except (openai.OpenAIError, ValueError) as error:
        raise failure_of_status(None, "the provider's answer cannot be read") from error


def _message(error: openai.APIStatusError) -> str:
    body = error.body
    return str(body.get("message", "")) if isinstance(body, dict) else ""
