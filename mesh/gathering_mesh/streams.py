"""What servicers of streams need: an end of their own, and messages that many readers share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from google.protobuf.message import Message

from gathering_mesh.call import Call

T = TypeVar("T")
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
    iterator, reading = aiter(source), _Reading()
    with call.closing.telling(reading.interrupt):
        try:
            while not call.closing:
                try:
                    item = await reading.next_of(iterator)
                except StopAsyncIteration:
                    return
                yield item
        except _Interrupted:
            return
        finally:
            close = getattr(iterator, "aclose", None)
            if close is not None:
                await close()


class _Interrupted(Exception):
    """The wait for an item was ended from outside."""


class _Reading:
    """Reads items in the reader's own task, which costs little; a wait for one can be ended.

    As `asyncio.timeout` does, by a cancellation that is taken back. A reader that does something
    else at that moment, as sending the item before, is left alone.
    """

    def __init__(self) -> None:
        self._waiting: asyncio.Task[Any] | None = None
        self._interrupted = False

    def interrupt(self) -> None:
        """End the wait, if there is one."""
        if self._waiting is not None:
            self._interrupted = True
            self._waiting.cancel()

    async def next_of(self, iterator: AsyncIterator[T]) -> T:
        """Return the next item; _Interrupted."""
        task = self._waiting = asyncio.current_task()
        assert task is not None  # noqa: S101 (coroutines run in tasks; for the type checker)
        before = task.cancelling()
        try:
            return await anext(iterator)
        except asyncio.CancelledError:
            if not self._interrupted or task.cancelling() > before + 1:
                raise  # others cancel this task
            raise _Interrupted from None
        finally:
            self._waiting = None
            if self._interrupted:
                task.uncancel()


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
        pass  # ends with its consumer, which waits for the end that follows
    except Exception as error:
        end = _End(error)
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()
        await queue.put(end)


def _taken(queue: asyncio.Queue[T | _End]) -> list[T | _End]:
    """Take all that is there."""
    found = []
    while not queue.empty():
        found.append(queue.get_nowait())
    return found
