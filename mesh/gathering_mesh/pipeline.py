"""What happens to every call, in one place and in this order.

Authenticate by the rule of the RPC, refuse unreadable bytes, check the bounds, take a place in the
class of calls, run the handler within the deadline, turn errors into statuses, log one line.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import grpc
import structlog
from google.protobuf.message import Message

from gathering_mesh import telemetry
from gathering_mesh.call import Call, Closing, Principal
from gathering_mesh.errors import (
    Cancelled,
    DeadlineExceeded,
    DomainError,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from gathering_mesh.ids import new_id
from gathering_mesh.routes import Route, Unreadable
from gathering_mesh.settings import ServerSettings
from gathering_mesh.status import to_wire
from gathering_mesh.streams import Encoded
from gathering_mesh.tokens import Authenticator
from gathering_mesh.validation import Validator

REQUEST_ID = "x-request-id"
TRACEPARENT = "traceparent"
FORWARDED_FOR = "x-forwarded-for"
_LONGEST_REQUEST_ID = 128
_LONGEST_ADDRESS = 64
_log = structlog.get_logger("gathering_mesh.calls")

Context = grpc.aio.ServicerContext[Any, Any]
Answer = TypeVar("Answer", bound=Message | Encoded)


class Gate:
    """Bounds the calls of one class that are in flight."""

    def __init__(self, what: str, limit: int) -> None:
        self._what = what
        self._limit = limit
        self.count = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place; ResourceExhausted if there is none."""
        if self.count >= self._limit:
            raise ResourceExhausted(
                f"{self._limit} {self._what} are in flight", reason="OVERLOADED", retry_after=1.0
            )
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1


@dataclass(slots=True)
class _Seen:
    """What the log line of a call tells; filled as the call goes on."""

    method: str
    metadata: dict[str, str]
    correlation_id: str
    trace: str
    started: float
    error: DomainError | None = None
    fault: BaseException | None = None
    messages: int = 0


class Pipeline:
    """Runs calls; one per server."""

    def __init__(
        self, settings: ServerSettings, authenticator: Authenticator, validator: Validator
    ) -> None:
        self._settings = settings
        self._authenticator = authenticator
        self._validator = validator
        self._unary = Gate("unary calls", settings.unary_calls)
        self._streams = Gate("streams", settings.streams)
        self._open: set[Closing] = set()
        self._draining = False

    def close_streams(self) -> None:
        """Ask every stream to end, and those that begin from now on."""
        self._draining = True
        for closing in tuple(self._open):
            closing.close("DRAINING")

    async def unary(self, route: Route, requests: object, context: Context) -> Message:
        """Serve a call with one answer; its request is read from the context."""
        assert route.unary is not None  # noqa: S101 (the server asks for unary routes only)
        async with self._observed(route, context) as seen:
            request = await _request(context)
            call = await self._admit(route, request, context, seen)
            with self._unary.place():
                async with _within(call):
                    answer = await route.unary(request, call)
            return _checked(route, answer)
        raise AssertionError("a failed call was answered")  # aborting raises

    async def stream(self, route: Route, requests: object, context: Context) -> None:
        """Serve a call with a stream of answers; its request is read from the context."""
        assert route.stream is not None  # noqa: S101 (the server asks for streamed routes only)
        async with self._observed(route, context) as seen:
            request = await _request(context)
            call = await self._admit(route, request, context, seen)
            with self._streams.place(), self._closable(call):
                until = _ends_at(call.principal) + self._settings.token_grace
                async with _within(call, until), aclosing(route.stream(request, call)) as answers:
                    async for answer in answers:
                        checked = _checked(route, answer)
                        if not seen.messages:
                            await _open(context)
                        await context.write(checked)
                        seen.messages += 1

    async def _admit(
        self, route: Route, request: Message | Unreadable, context: Context, seen: _Seen
    ) -> Call:
        principal = await self._authenticator.principal(route.rule, seen.metadata)
        telemetry.bind(tenant=principal.tenant, user=principal.user, actor=principal.actor)
        if isinstance(request, Unreadable):
            raise request.error
        self._validator.check(request)
        return Call(
            principal=principal,
            method=route.method,
            deadline=self._deadline(route, context),
            trace=seen.trace,
            request_key=route.key(request),
            correlation_id=seen.correlation_id,
            address=_address(seen.metadata),
        )

    def _deadline(self, route: Route, context: Context) -> float | None:
        remaining: float | None = context.time_remaining()  # type stubs leave the None out
        if remaining is None or remaining > _FOR_EVER:
            remaining = None if route.unary is None else self._settings.unary_deadline
        return None if remaining is None else time.monotonic() + remaining

    @contextmanager
    def _closable(self, call: Call) -> Iterator[None]:
        """Have the stream asked to end when the server drains or the token ends."""
        closing, timer = call.closing, None
        left = _ends_at(call.principal) - time.time()
        if left < _FOR_EVER:
            loop = asyncio.get_running_loop()
            timer = loop.call_later(max(0.0, left), closing.close, "TOKEN_EXPIRED")
        self._open.add(closing)
        if self._draining:
            closing.close("DRAINING")
        try:
            yield
        finally:
            self._open.discard(closing)
            if timer is not None:
                timer.cancel()

    @asynccontextmanager
    async def _observed(self, route: Route, context: Context) -> AsyncIterator[_Seen]:
        """Turn whatever goes wrong inside into a status, and log the call."""
        metadata = _metadata(context)
        given = metadata.get(REQUEST_ID, "")
        usable = 0 < len(given) <= _LONGEST_REQUEST_ID and given.isprintable()
        seen = _Seen(
            route.method,
            metadata,
            given if usable else new_id("req"),
            telemetry.child_trace(metadata.get(TRACEPARENT)),
            time.perf_counter(),
        )
        telemetry.bind(request_id=seen.correlation_id, trace_id=telemetry.trace_id(seen.trace))
        context.set_trailing_metadata(((REQUEST_ID, seen.correlation_id),))
        try:
            yield seen
        except DomainError as error:
            seen.error = error
        except asyncio.CancelledError as fault:
            seen.error, seen.fault = _cancelled(seen), fault
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # by the caller, by its deadline or by the end of the grace period
        except Exception as fault:
            seen.error, seen.fault = _internal(seen), fault
        finally:
            _report(seen)
        if seen.error is not None:
            await _abort(context, seen.error, seen.correlation_id)


_FOR_EVER = 10 * 365 * 86_400.0  # loops take no timer for infinity


@asynccontextmanager
async def _within(call: Call, until: float | None = None) -> AsyncIterator[None]:
    """Bound the handler by the deadline and, for streams, by the wall time `until`."""
    remaining = call.remaining()
    left = None if until is None else until - time.time()
    expires_first = left is not None and left < (_FOR_EVER if remaining is None else remaining)
    limit = asyncio.timeout(left if expires_first else remaining)
    try:
        async with limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        if expires_first:
            raise Unauthenticated("the token has expired", reason="TOKEN_EXPIRED") from error
        raise DeadlineExceeded("the deadline passed") from error


def _ends_at(principal: Principal) -> float:
    """Return when a stream has to end: with its user's token.

    A service's own token is renewed every few minutes; a service that follows a log for ever
    gains nothing from doing so in pieces.
    """
    return principal.expires_at if principal.has_subject else math.inf


async def _request(context: Context) -> Message | Unreadable:
    read: Any = await context.read()
    if read is grpc.aio.EOF:
        refused = InvalidArgument("the call ended before its request", reason="MALFORMED_REQUEST")
        return Unreadable(refused)
    found: Message | Unreadable = read
    return found


async def _open(context: Context) -> None:
    """Send the headers of a stream whole, also when it is cut at this moment.

    gRPC takes headers as sent only when that is done; a status that follows a cut would carry
    them again, which it refuses, and the caller would hear nothing.
    """
    sending = asyncio.ensure_future(context.send_initial_metadata(()))
    try:
        await asyncio.shield(sending)
    except asyncio.CancelledError:
        await asyncio.wait({sending})
        if not sending.cancelled():
            sending.exception()  # read: whoever hung up gets no headers, and that is no fault
        raise


def _checked(route: Route, answer: Answer) -> Answer:
    kind = answer.kind if isinstance(answer, Encoded) else type(answer)
    if kind is not route.response:
        raise TypeError(f"{route.method} answered {type(answer).__name__}")
    return answer


def _metadata(context: Context) -> dict[str, str]:
    given = context.invocation_metadata() or ()
    return {key: value for key, value in given if isinstance(value, str)}


def _address(metadata: dict[str, str]) -> str:
    """Return what the edge appended; what stands before it is the client's own word."""
    return metadata.get(FORWARDED_FOR, "").rpartition(",")[2].strip()[:_LONGEST_ADDRESS]


def _cancelled(seen: _Seen) -> DomainError:
    return Cancelled("the call was cancelled")


def _internal(seen: _Seen) -> Internal:
    return Internal(f"internal error; its request id is {seen.correlation_id}")


async def _abort(context: Context, error: DomainError, correlation_id: str) -> NoReturn:
    wire = to_wire(error, correlation_id)
    await context.abort(wire.code, wire.message, (*wire.metadata, (REQUEST_ID, correlation_id)))
    raise AssertionError("abort returned")


def _report(seen: _Seen) -> None:
    took = round((time.perf_counter() - seen.started) * 1000, 2)
    fields: dict[str, object] = {"method": seen.method, "ms": took}
    if seen.messages:
        fields["messages"] = seen.messages
    if seen.error is None:
        _log.info("call", status="OK", **fields)
        return
    fields |= {"status": seen.error.status, "reason": seen.error.reason}
    if isinstance(seen.error, Internal) and seen.fault is not None:
        _log.error("call", exc_info=seen.fault, **fields)
    elif isinstance(seen.error, Unavailable | Internal):
        _log.warning("call", error=seen.error.message, **fields)
    else:
        _log.info("call", error=seen.error.message, **fields)
