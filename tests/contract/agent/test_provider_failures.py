"""How every provider fails, each through its SDK against a server that speaks its format."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from gathering_agent.errors import (
    ModelContextExceeded,
    ModelFailed,
    ModelNotConfigured,
    ModelRefused,
)
from gathering_agent.models import Role
from gathering_agent.providers.models_dialogue import Said
from tests.support.providers.kinds import KINDS, Kind, asked, provider, run
from tests.support.providers.matrix import cell
from tests.support.providers.serving import Reply

Failure = ModelFailed | ModelNotConfigured | ModelRefused


async def _fails(kind: Kind, reply: Reply, error: type[Failure], idle: float = 5.0) -> Failure:
    """Return the error of a call, which the SDK does not make again by itself."""
    async with provider(kind, reply, idle) as (model, seen):
        with pytest.raises(error) as caught:
            await run(model, asked())
    assert len(seen.requests) == 1
    assert type(caught.value) is error
    return caught.value


def _may_have_used_something(error: Failure) -> bool:
    return not (error.refused or getattr(error, "unsent", False))


# --- Answers that are errors --------------------------------------------------------------------


@cell("400")
async def test_bad_request_is_refused_with_its_reason_and_used_nothing(kind: Kind) -> None:
    error = await _fails(kind, kind.refusal(400, "because"), ModelRefused)
    assert error.message == "the provider refuses the request (400): because"
    assert error.refused


@cell("401")
async def test_wrong_key_is_a_matter_of_configuration(kind: Kind) -> None:
    error = await _fails(kind, kind.refusal(401, "invalid x-api-key"), ModelNotConfigured)
    assert error.message == "the provider refuses the credentials (401): invalid x-api-key"
    assert error.refused


@cell("429 with Retry-After")
async def test_rate_limit_is_a_failure_that_says_when_to_come_back(kind: Kind) -> None:
    reply = kind.refusal(429, "slow down", headers={"retry-after": "7"})
    error = await _fails(kind, reply, ModelFailed)
    assert error.message == "the provider answered 429: slow down"
    assert error.retry_after == 7
    assert error.refused


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("2.5", 2.5), ("900", 60.0), ("-1", 0.0), ("nan", None),
     ("Wed, 21 Oct 2026 07:28:00 GMT", None)],
)  # fmt: skip
async def test_retry_after_is_read_as_seconds_and_bounded(
    header: str, seconds: float | None
) -> None:
    kind = KINDS["openai"]
    reply = kind.refusal(429, "slow down", headers={"retry-after": header})
    assert (await _fails(kind, reply, ModelFailed)).retry_after == seconds


async def test_quota_that_is_used_up_does_not_pass_by_waiting() -> None:
    error = {"message": "You exceeded your current quota", "code": "insufficient_quota"}
    reply = Reply(status=429, body={"error": error})
    await _fails(KINDS["openai"], reply, ModelNotConfigured)


@cell("500")
async def test_server_fault_is_a_failure_that_may_have_used_something(kind: Kind) -> None:
    for status in (500, 502, 504):
        error = await _fails(kind, kind.refusal(status, "because"), ModelFailed)
        assert error.message == f"the provider answered {status}: because"
        assert _may_have_used_something(error)


async def test_time_out_of_what_stands_between_may_have_used_something() -> None:
    kind = KINDS["openai"]
    assert _may_have_used_something(await _fails(kind, kind.refusal(408, "late"), ModelFailed))


@cell("overload")
async def test_overload_is_a_failure_and_anthropics_used_nothing(kind: Kind) -> None:
    anthropic = kind.path == "/v1/messages"
    reply = kind.refusal(529 if anthropic else 503, "busy", headers={"retry-after": "2"})
    error = await _fails(kind, reply, ModelFailed)
    assert error.retry_after == 2
    assert error.refused is anthropic


@cell("context overflow")
async def test_too_long_a_conversation_has_a_reason_of_its_own(kind: Kind) -> None:
    status, message, _ = kind.overflow
    error = await _fails(kind, kind.refusal(status, message), ModelContextExceeded)
    assert error.reason == "MODEL_CONTEXT_EXCEEDED"
    assert message in error.message
    assert error.refused


@pytest.mark.parametrize(
    ("name", "reply"),
    [
        ("anthropic", KINDS["anthropic"].refusal(413, "Request exceeds the maximum size")),
        ("anthropic", KINDS["anthropic"].refusal(
            400, "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000")),
        ("ollama", KINDS["ollama"].refusal(500, "the input length exceeds the context length")),
        ("vllm", Reply(['data: {"error": {"message": "maximum context length is 9"}}\n\n'])),
    ],
    ids=["too-many-bytes", "with-the-answer", "as-a-fault", "in-mid-stream"],
)  # fmt: skip
async def test_context_overflow_is_known_however_it_is_told(name: str, reply: Reply) -> None:
    await _fails(KINDS[name], reply, ModelContextExceeded)


# --- Streams that break -------------------------------------------------------------------------


@cell("overload in mid-stream")
async def test_error_inside_the_stream_is_a_failure(kind: Kind) -> None:
    reply = Reply([*kind.events(["half"], whole=False), *kind.broken])
    error = await _fails(kind, reply, ModelFailed)
    assert error.message == "busy"
    assert _may_have_used_something(error)


@cell("time-out before the first byte")
async def test_silent_server_is_a_failure(kind: Kind) -> None:
    error = await _fails(kind, Reply(silent=True), ModelFailed, idle=0.2)
    assert _may_have_used_something(error)


@cell("time-out in mid-stream")
async def test_stream_that_stands_still_is_a_failure(kind: Kind) -> None:
    reply = Reply(kind.events(["half"], whole=False), hang=True)
    assert _may_have_used_something(await _fails(kind, reply, ModelFailed, idle=0.2))


@cell("cut stream")
async def test_cut_stream_is_a_failure_and_no_answer(kind: Kind) -> None:
    half = kind.events(["half"], whole=False)
    replies = [Reply(half), Reply(half, cut=True)]
    replies += [Reply(kind.events(["half"], stop=word)) for word in kind.cut_off]
    for reply in replies:
        assert _may_have_used_something(await _fails(kind, reply, ModelFailed))


MALFORMED = (
    "data: {not json\n\n",
    'data: {"choices": [{"index": 0, "del\n\n',
    "data: [1, 2]\n\n",
    'data: {"type": "content_block_delta", "choices": [{}]}\n\n',
    'data: {"type": "message_delta", "choices": 5, "delta": 7}\n\n',
)


@cell("malformed chunk")
async def test_malformed_chunk_is_a_failure(kind: Kind) -> None:
    anthropic = kind.path == "/v1/messages"
    replies = [
        Reply([*kind.events(["half"], whole=False), _named(event) if anthropic else event])
        for event in MALFORMED
    ]
    async with provider(kind, replies) as (model, seen):
        for step in range(len(MALFORMED)):
            with pytest.raises(ModelFailed) as caught:
                await run(model, asked(Said(Role.USER, str(step))))
            assert _may_have_used_something(caught.value)
    assert len(seen.requests) == len(MALFORMED)


def _named(event: str) -> str:
    name = "message_delta" if "message_delta" in event else "content_block_delta"
    return f"event: {name}\n{event}"


@cell("not reachable")
async def test_provider_that_cannot_be_reached_was_sent_nothing(kind: Kind) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        model = kind.make(f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ModelFailed) as caught:
            await run(model, asked())
        await model.aclose()
    assert caught.value.unsent
    assert not caught.value.refused


@cell("hung up without an answer")
async def test_provider_that_hangs_up_without_a_word_may_have_begun(kind: Kind) -> None:
    asked_for = asyncio.Event()

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked_for.set()
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        model = kind.make(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(ModelFailed) as caught:
            await run(model, asked())
        await model.aclose()
    assert asked_for.is_set()
    assert _may_have_used_something(caught.value)


# --- Connections that break otherwise -----------------------------------------------------------


@asynccontextmanager
async def raw(*pieces: bytes, read: bool = True) -> AsyncIterator[str]:
    """Serve these bytes, in pieces with a pause between, to whoever asks; then keep the line."""
    over = asyncio.Event()
    answers: set[asyncio.Task[None] | None] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers.add(asyncio.current_task())
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            if read:
                await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.05)
            await over.wait()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, limit=1024) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        over.set()
        await asyncio.gather(*(one for one in answers if one is not None))


async def _breaks(kind: Kind, url: str, text: str = "hi") -> None:
    model = kind.make(url, 0.3)
    with pytest.raises(ModelFailed) as caught:
        async with asyncio.timeout(4):
            await run(model, asked(Said(Role.USER, text)))
    await model.aclose()
    assert _may_have_used_something(caught.value)


_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
BROKEN = {
    "no-status": [b"HTP/9 garbage\r\n\r\n"],
    "endless-header": [b"HTTP/1.1 200 OK\r\nx: " + b"a" * 200_000 + b"\r\n\r\n"],
    "first-chunk": [_HEAD + b"zz\r\nfoo"],
    "later-chunk": [_HEAD + b"9\r\n: hello\n\n\r\n", b"zz\r\nfoo"],
    "end-of-chunk": [_HEAD + b"9\r\n: hello\n\n\r\n", b"5\r\nabcdefgh\r\n"],
}


@pytest.mark.parametrize("pieces", BROKEN.values(), ids=BROKEN)
@cell("broken HTTP")
async def test_answer_that_is_no_http_is_a_failure(kind: Kind, pieces: list[bytes]) -> None:
    async with raw(*pieces) as url:
        await _breaks(kind, url)


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # aiohttp's advice
@cell("request not taken")
async def test_provider_that_does_not_read_the_request_is_a_failure(kind: Kind) -> None:
    async with raw(read=False) as url:
        await _breaks(kind, url, "x" * 8_000_000)


@cell("cancelled")
async def test_cancelling_hangs_up(kind: Kind) -> None:
    reply = Reply(kind.events(["one"], whole=False), hang=True)
    async with provider(kind, reply) as (model, seen):
        task = asyncio.create_task(run(model, asked()))
        await asyncio.wait_for(seen.streaming.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(seen.disconnected.wait(), 5)
