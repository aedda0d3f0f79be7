"""Anthropic's models, by the official SDK; one attempt per call, retries are ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any, cast

import anthropic
import httpx2
from anthropic.types import (
    CacheControlEphemeralParam,
    MessageParam,
    TextBlockParam,
    ToolChoiceParam,
    ToolParam,
)

from gathering_agent.models import JsonObject, JsonValue, Native, Role, StopReason
from gathering_agent.providers.models_dialogue import (
    Answer,
    ModelEvent,
    ModelRequest,
    Said,
    TextDelta,
    ToolSpec,
    ToolUse,
)
from gathering_agent.providers.provider_wire import (
    BROKEN,
    arguments,
    base64_of,
    failure_of_connection,
    failure_of_status,
    read_calls,
    readable,
    timely,
    wire_id,
    wire_tool,
)

_Json = Mapping[str, Any]
# Tools and system prompt are the same in every step: read once, they come from the cache.
_CACHED: CacheControlEphemeralParam = {"type": "ephemeral"}
_STOPS = {
    "max_tokens": StopReason.MAX_TOKENS,
    "model_context_window_exceeded": StopReason.MAX_TOKENS,
    "refusal": StopReason.REFUSAL,
}


class AnthropicProvider:
    """Streams the Messages API."""

    def __init__(self, api_key: str, base_url: str, *, idle_timeout: float = 120.0) -> None:
        self._idle_timeout = idle_timeout
        self._client = anthropic.AsyncAnthropic(
            api_key=api_key,
            base_url=base_url,
            max_retries=0,
            timeout=httpx2.Timeout(idle_timeout, connect=10.0),
            http_client=anthropic.DefaultAioHttpClient(),
        )

    async def aclose(self) -> None:
        """Release connections."""
        await self._client.close()

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """See `ModelProvider.stream`."""
        blocks = _Blocks(request)
        with _failures():
            # Plain JSON both ways: the SDK's model of each event costs more than all else of it.
            async with asyncio.timeout(self._idle_timeout):
                stream = await self._client.post(
                    "/v1/messages",
                    body=_body(request),
                    cast_to=object,
                    stream=True,
                    stream_cls=anthropic.AsyncStream[object],
                )
            async with stream:
                async for event in timely(stream, self._idle_timeout):
                    with readable():
                        text = blocks.take(cast("_Json", event))
                    if text:
                        yield TextDelta(text)
        with readable():
            answer = blocks.answer()
        yield answer


class _Blocks:
    """Puts the content blocks of one message together."""

    def __init__(self, request: ModelRequest) -> None:
        self._request = request
        self._blocks: dict[int, JsonObject] = {}
        self._inputs: dict[int, str] = {}
        self._stop = ""
        self._done = False
        self._input_tokens = 0
        self._output_tokens = 0
        self._cached_tokens = 0
        self._written_tokens = 0

    def take(self, event: _Json) -> str:
        """Take an event, a JSON object of any form; return the text that it brings."""
        kind = event["type"]
        if kind == "content_block_delta":
            return self._extend(event["index"], event["delta"])
        if kind == "message_start":
            self._count(event["message"]["usage"])
        elif kind == "content_block_start":
            block = {name: one for name, one in event["content_block"].items() if one is not None}
            self._blocks[event["index"]] = block
            return str(block.get("text", "")) if block["type"] == "text" else ""
        elif kind == "message_delta":
            self._stop = event["delta"].get("stop_reason") or self._stop
            self._count(event["usage"])
        elif kind == "message_stop":
            self._done = True
        return ""

    def _extend(self, index: int, delta: _Json) -> str:
        block, kind = self._blocks[index], delta["type"]
        if kind == "text_delta":
            block["text"] = str(block.get("text", "")) + delta["text"]
            return str(delta["text"])
        if kind == "input_json_delta":
            self._inputs[index] = self._inputs.get(index, "") + delta["partial_json"]
        elif kind == "thinking_delta":
            block["thinking"] = str(block.get("thinking", "")) + delta["thinking"]
        elif kind == "signature_delta":
            block["signature"] = delta["signature"]
        return ""

    def _count(self, usage: _Json) -> None:
        """Take counts, which are cumulative; input that came from a cache was read as well."""
        written = usage.get("cache_creation_input_tokens") or 0
        cached = usage.get("cache_read_input_tokens") or 0
        read = (usage.get("input_tokens") or 0) + written + cached
        self._input_tokens = max(self._input_tokens, read)
        self._cached_tokens = max(self._cached_tokens, cached)
        self._written_tokens = max(self._written_tokens, written)
        self._output_tokens = max(self._output_tokens, usage.get("output_tokens") or 0)

    def answer(self) -> Answer:
        """Return the end of the call; ModelFailed when the stream was cut."""
        if not self._done or not self._stop:
            raise failure_of_status(None, "the provider's stream was cut")
        asked = [
            (str(block["name"]), self._input(index))
            for index, block in sorted(self._blocks.items())
            if block["type"] == "tool_use"
        ]
        stop = _STOPS.get(self._stop, StopReason.END)
        content = [block for _, block in sorted(self._blocks.items()) if _speaks(block)]
        return Answer(
            tool_calls=read_calls(self._request, asked),
            stop_reason=stop,
            input_tokens=self._input_tokens,
            output_tokens=self._output_tokens,
            native=Native(self._request.model, cast("list[JsonValue]", content)),
            cached_input_tokens=self._cached_tokens,
            cache_write_tokens=self._written_tokens,
        )

    def _input(self, index: int) -> str:
        """Return a tool's input as JSON text, and keep what can be read of it in the block."""
        block = self._blocks[index]
        text = self._inputs.get(index) or json.dumps(block.get("input") or {})
        block["input"] = arguments(text)[0]
        return text


def _body(request: ModelRequest) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": request.model,
        "max_tokens": request.max_output_tokens,
        "messages": _messages(request),
        "stream": True,
    }
    if request.system:
        body["system"] = _system(request)
    if request.tools:
        body |= {"tools": _tools(request), "tool_choice": _choice(request)}
    return body


def _speaks(block: JsonObject) -> bool:
    """Tell whether a block may be given back: the API refuses empty texts."""
    return block["type"] != "text" or bool(block.get("text"))


def _choice(request: ModelRequest) -> ToolChoiceParam:
    if request.tool_use is ToolUse.NONE:
        return {"type": "none"}
    return {"type": "auto"}


def _system(request: ModelRequest) -> list[TextBlockParam]:
    return [{"type": "text", "text": request.system, "cache_control": _CACHED}]


def _tools(request: ModelRequest) -> list[ToolParam]:
    tools = [_tool(tool) for tool in request.tools]
    tools[-1]["cache_control"] = _CACHED  # holds for all before it as well
    return tools


def _tool(tool: ToolSpec) -> ToolParam:
    schema: dict[str, object] = {"type": "object", **tool.parameters}
    return ToolParam(name=tool.name, description=tool.description, input_schema=schema)


def _messages(request: ModelRequest) -> list[MessageParam]:
    """Return the dialogue; neighbours of one role are one message, as the API wants it."""
    turns: list[tuple[str, list[JsonValue]]] = []
    ids: list[str] = []  # of the tool calls that the next results answer
    for said in request.messages:
        role = "assistant" if said.role is Role.ASSISTANT else "user"
        content = _content(request, said, ids)
        if said.role is Role.ASSISTANT:
            ids = [str(b["id"]) for b in _of_type(content, "tool_use")]
        if content and turns and turns[-1][0] == role:
            turns[-1][1].extend(content)
        elif content:
            turns.append((role, content))
    return [cast(MessageParam, {"role": role, "content": content}) for role, content in turns]


def _content(request: ModelRequest, said: Said, ids: list[str]) -> list[JsonValue]:
    if said.role is Role.TOOL:
        return [
            {
                "type": "tool_result",
                "tool_use_id": ids[place] if place < len(ids) else wire_id(result.call_id),
                "content": result.text or "(nothing)",
                "is_error": result.failed,
            }
            for place, result in enumerate(said.tool_results)
        ]
    if said.native is not None and said.native.model == request.model:
        return [_own(block) for block in said.native.content]
    text: list[JsonValue] = [{"type": "text", "text": said.text}] if said.text.strip() else []
    images: list[JsonValue] = [
        {
            "type": "image",
            "source": {"type": "base64", "media_type": image.media_type, "data": base64_of(image)},
        }
        for image in said.images
    ]
    return (
        images
        + text
        + [
            {
                "type": "tool_use",
                "id": wire_id(c.call_id),
                "name": wire_tool(c.tool),
                "input": c.arguments,
            }
            for c in said.tool_calls
        ]
    )


def _own(block: JsonValue) -> JsonValue:
    """Return a block of the model's as it was, but for a name of a tool that nobody takes."""
    if isinstance(block, dict) and block.get("type") == "tool_use":
        return {**block, "name": wire_tool(str(block.get("name")))}
    return block


def _of_type(content: Iterable[JsonValue], kind: str) -> list[JsonObject]:
    return [b for b in content if isinstance(b, dict) and b.get("type") == kind]


@contextmanager
def _failures() -> Any:
    """Raise what goes wrong as an error of ours."""
    try:
        yield
    except anthropic.APIStatusError as error:
        raise failure_of_status(
            error.status_code, _message(error), error.response.headers.get("retry-after")
        ) from error
    except (anthropic.APIConnectionError, *BROKEN) as error:
        raise failure_of_connection(error) from error
    except (anthropic.AnthropicError, ValueError) as error:
        raise failure_of_status(None, "the provider's answer cannot be read") from error


def _message(error: anthropic.APIStatusError) -> str:
    """Return what the provider says, without the request that the SDK repeats."""
    body = error.body
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        return str(body["error"].get("message", ""))
    return ""
