"""Calls, ids, streams and logs, without a server."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from typing import Any

import pytest
import structlog

from gathering_mesh import telemetry
from gathering_mesh.call import Call, Principal, RequestKey, new_trace
from gathering_mesh.errors import NotFound
from gathering_mesh.ids import new_id
from gathering_mesh.settings import ServiceSettings
from gathering_mesh.streams import in_pages, until_closing

TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ1c3JfMSJ9.c2lnbmF0dXJl"


def a_call(**fields: Any) -> Call:
    """Return a call of nobody."""
    return Call(Principal.anonymous(), "test", **fields)


def test_ids_sort_by_the_time_of_their_making_and_differ() -> None:
    ids = [new_id("tsk") for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert [one[:20] for one in ids] == sorted(one[:20] for one in ids)
    assert all(len(one) == 36 and one[16] == "7" for one in ids)


def test_derived_call_has_another_key_and_the_same_digest() -> None:
    call = a_call(request_key=RequestKey("test", "a", b"digest"), trace="t")
    derived = call.derived("b")
    assert derived.request_key == RequestKey("test", "b", b"digest")
    assert (derived.principal, derived.trace) == (call.principal, "t")
    assert a_call().derived("c").request_key is not None


def test_principal_does_not_show_its_token() -> None:
    principal = Principal("t", "u", frozenset(), "member", token=TOKEN)
    assert TOKEN not in repr(a_call().derived("x"))
    assert TOKEN not in repr(principal)


def test_service_error_keeps_its_own_reason_and_status() -> None:
    class ToolNotFound(NotFound):
        reason = "TOOL_NOT_FOUND"

    assert (ToolNotFound("x").reason, ToolNotFound.status) == ("TOOL_NOT_FOUND", "NOT_FOUND")
    assert ToolNotFound("x", reason="OTHER").reason == "OTHER"


async def endless(closed: list[bool]) -> AsyncGenerator[int, None]:
    """Count until closed."""
    try:
        number = 0
        while True:
            yield number
            number += 1
            await asyncio.sleep(0)
    finally:
        closed.append(True)


async def test_closing_ends_a_stream_and_closes_its_source() -> None:
    call, closed, seen = a_call(), list[bool](), list[int]()
    async for number in until_closing(call, endless(closed)):
        seen.append(number)
        if number == 5:
            call.closing.close("DRAINING")
            call.closing.close("TOKEN_EXPIRED")
    assert seen[:6] == [0, 1, 2, 3, 4, 5]
    assert call.closing.reason == "DRAINING"
    assert closed == [True]


async def test_closing_ends_a_stream_whose_source_is_silent() -> None:
    async def silent() -> AsyncGenerator[int, None]:
        await asyncio.Event().wait()
        yield 1

    call = a_call()
    asyncio.get_running_loop().call_later(0.01, call.closing.close, "DRAINING")
    assert [one async for one in until_closing(call, silent())] == []


async def test_reader_that_sends_while_its_stream_is_closed_is_not_cut_off() -> None:
    call, closed, sent = a_call(), list[bool](), list[int]()
    async for number in until_closing(call, endless(closed)):
        call.closing.close("DRAINING")
        await asyncio.sleep(0.01)
        sent.append(number)
    assert (sent, closed) == ([0], [True])
    await asyncio.sleep(0)  # nothing of the closing is left to come


async def test_stream_that_is_closed_and_cancelled_at_once_is_cancelled() -> None:
    async def silent() -> AsyncGenerator[int, None]:
        await asyncio.Event().wait()
        yield 1

    async def read() -> list[int]:
        return [one async for one in until_closing(call, silent())]

    call = a_call()
    reader = asyncio.create_task(read())
    await asyncio.sleep(0)
    call.closing.close("DRAINING")
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader


async def test_source_that_does_not_heed_the_closing_leaves_its_reader_uncancelled() -> None:
    async def stubborn() -> AsyncGenerator[int, None]:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        yield 1

    call = a_call()
    asyncio.get_running_loop().call_later(0.01, call.closing.close, "DRAINING")
    assert [one async for one in until_closing(call, stubborn())] == [1]
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_stream_that_was_closed_before_it_began_ends() -> None:
    call, closed = a_call(), list[bool]()
    call.closing.close("DRAINING")
    seen = [number async for number in until_closing(call, endless(closed))]
    assert len(seen) <= 100


async def test_reader_that_leaves_closes_the_source() -> None:
    call, closed = a_call(), list[bool]()
    stream = until_closing(call, endless(closed))
    async for _ in stream:
        break
    await stream.aclose()
    assert closed == [True]


async def test_what_waits_comes_in_pages_and_an_error_after_it() -> None:
    async def failing() -> AsyncGenerator[int, None]:
        for number in range(7):
            yield number
        raise NotFound("gone")

    seen: list[list[int]] = []
    with pytest.raises(NotFound):
        async for page in in_pages(failing(), 3):
            seen.append(page)  # noqa: PERF401 - those before the error count
    assert [number for page in seen for number in page] == list(range(7))
    assert 1 < max(map(len, seen)) <= 4


async def test_reader_of_pages_that_leaves_closes_the_source() -> None:
    closed = list[bool]()
    pages = in_pages(endless(closed), 3)
    assert await anext(pages)
    await pages.aclose()
    assert closed == [True]


async def test_source_that_ends_or_fails_does_so_for_the_reader() -> None:
    async def three() -> AsyncGenerator[int, None]:
        for number in range(3):
            yield number

    async def failing() -> AsyncGenerator[int, None]:
        yield 1
        raise NotFound("gone")

    assert [one async for one in until_closing(a_call(), three())] == [0, 1, 2]
    with pytest.raises(NotFound):
        assert [one async for one in until_closing(a_call(), failing())]


@pytest.mark.parametrize(
    "parent", [None, "", "junk", "00-" + "0" * 32 + "-" + "1" * 16 + "-01", "00-xx", "x" * 5000]
)
def test_trace_that_is_none_gives_a_new_one(parent: str | None) -> None:
    assert telemetry.trace_id(telemetry.child_trace(parent)) not in (parent or "-")


def test_trace_goes_on_with_a_new_span_and_the_same_flags() -> None:
    parent = new_trace()[:-2] + "00"
    child = telemetry.child_trace(parent)
    assert telemetry.trace_id(child) == telemetry.trace_id(parent)
    assert child[36:52] != parent[36:52]
    assert child.endswith("-00")


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Take what is logged."""
    out = io.StringIO()
    telemetry.configure("probe", "info", as_json=True, stream=out)
    yield out
    structlog.reset_defaults()
    logging.basicConfig(force=True)


def test_secrets_are_redacted_by_name_and_by_look_at_any_depth(log: io.StringIO) -> None:
    structlog.get_logger().info(
        "x",
        password="swordfish",
        api_key="k-1",
        nested={"access_token": "swordfish", "list": [f"Bearer {TOKEN}"]},
        note=f"got {TOKEN}",
        url="postgresql://memory:swordfish@localhost/db",
        token_count=5,
    )
    text = log.getvalue()
    assert "swordfish" not in text
    assert TOKEN not in text
    assert "k-1" not in text
    assert json.loads(text)["token_count"] == 5
    assert "localhost/db" in text


def test_secrets_in_exceptions_are_redacted(log: io.StringIO) -> None:
    structlog.get_logger().error("x", exc_info=RuntimeError(f"failed with {TOKEN}"))
    assert "failed with" in log.getvalue()
    assert TOKEN not in log.getvalue()


def test_standard_logging_goes_the_same_way(log: io.StringIO) -> None:
    logging.getLogger("library").warning("hello %s", TOKEN)
    line = json.loads(log.getvalue())
    assert (line["service"], line["level"], line["logger"]) == ("probe", "warning", "library")
    assert TOKEN not in log.getvalue()


def test_lines_below_the_level_are_left_out(log: io.StringIO) -> None:
    structlog.get_logger().debug("x")
    assert log.getvalue() == ""


def test_console_form_is_for_people() -> None:
    out = io.StringIO()
    telemetry.configure("probe", "info", as_json=False, stream=out)
    structlog.get_logger().info("hello", token=TOKEN)
    structlog.reset_defaults()
    logging.basicConfig(force=True)
    assert "hello" in out.getvalue()
    assert TOKEN not in out.getvalue()


class Settings(ServiceSettings):
    """As a service declares its own."""

    service: str = "probe"


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATHERING_SERVICE", "memory")
    monkeypatch.setenv("GATHERING_SERVER__PORT", "7001")
    monkeypatch.setenv("GATHERING_PEERS", '{"agent": "127.0.0.1:1"}')
    monkeypatch.setenv("GATHERING_DATABASE_URL", "postgresql://memory:swordfish@localhost/db")
    settings = Settings()
    assert (settings.service, settings.server.port) == ("memory", 7001)
    assert settings.peers == {"agent": "127.0.0.1:1"}
    assert "swordfish" not in repr(settings)
