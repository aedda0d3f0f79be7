"""What servicers of streams need: an end of their own, and messages that many readers share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import dataclass
from typing import Self, TypeVar

from google.protobuf.message import Message

from gathering_mesh.call import Call

T = TypeVar("T")
_AHEAD = 64  # items read before they are sent
_LOOKS = 10  # at a queue that fills


@dataclass(frozen=True, slots=True)
class Encoded:
    """An answer that was serialised once, for all streams that send it."""

    kind: type[Message]
    data: bytes

    @classmethod
    def of(cls, message: Message) -> Self:
        """Serialise a message."""
        return cls(type(message), message.SerializeToString())


def serialized(answer: Message | Encoded) -> bytes:
    """Return the bytes of an answer."""
    return answer.data if isinstance(answer, Encoded) else answer.SerializeToString()


class _End:
    """Stands in the queue behind the last item."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


async def until_closing(call: Call, source: AsyncIterable[T]) -> AsyncGenerator[T, None]:
    """Yield what the source yields until `call.closing`; the handler then says goodbye.

    ```python
    async for entry in until_closing(call, self._log.tail(after)):
        yield convert(entry)
    if call.closing:
        yield WatchResponse(reconnect=Reconnect(reason=call.closing.reason))
    ```
    An item that is not yielded is not lost: the client resumes after the last that it got. The
    source is closed in any case.
    """
    queue: asyncio.Queue[T | _End] = asyncio.Queue(_AHEAD)
    pump = asyncio.create_task(_pump(source, queue))
    watch = asyncio.create_task(_watch(call, pump))
    try:
        while not isinstance(item := await queue.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        pump.cancel()
        watch.cancel()
        _taken(queue)  # a pump that waits for room can end
        await asyncio.gather(pump, watch, return_exceptions=True)


async def in_pages(
    source: AsyncIterable[T], most: int, gather: float = 0.0
) -> AsyncGenerator[list[T], None]:
    """Yield what the source has by now, in lists of at least one; up to `most` are read ahead.

    What comes first waits `gather` seconds for others, or until there are as many as are taken.

    An error of the source comes after what it gave before. The source is closed in any case.
    """
    queue: asyncio.Queue[T | _End] = asyncio.Queue(most)
    pump = asyncio.create_task(_pump(source, queue))
    end: _End | None = None
    try:
        while end is None:
            first = await queue.get()
            if gather and not isinstance(first, _End):
                await _filled(queue, gather)
            found = [first, *_taken(queue)]
            if isinstance(last := found[-1], _End):
                end = last
            if page := [one for one in found if not isinstance(one, _End)]:
                yield page
        if end.error is not None:
            raise end.error
    finally:
        pump.cancel()
        _taken(queue)  # a pump that waits for room can end
        await asyncio.gather(pump, return_exceptions=True)


async def _filled(queue: asyncio.Queue[T | _End], seconds: float) -> None:
    """Wait so long, or about until the queue is full: who is behind is not held up."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while not queue.full() and loop.time() < until:  # noqa: ASYNC110 (a queue tells of no fullness)
        await asyncio.sleep(seconds / _LOOKS)


async def _pump(source: AsyncIterable[T], queue: asyncio.Queue[T | _End]) -> None:
    end = _End()
    iterator = aiter(source)
    try:
        async for item in iterator:
            await queue.put(item)
    except asyncio.CancelledError:
        pass  # ends by the closing or with its consumer; both wait for the end that follows
    except Exception as error:
        end = _End(error)
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()
        await queue.put(end)


async def _watch(call: Call, pump: asyncio.Task[None]) -> None:
    await call.closing.wait()
    pump.cancel()


def _taken(queue: asyncio.Queue[T | _End]) -> list[T | _End]:
    """Take all that is there."""
    found = []
    while not queue.empty():
        found.append(queue.get_nowait())
    return found
