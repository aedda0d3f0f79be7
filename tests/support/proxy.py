"""A TCP proxy on loopback that breaks connections as networks do: at bytes that a seed chooses."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum

_CHUNK = 16 * 1024
_RESET = struct.pack("ii", 1, 0)  # linger for no time: closing sends RST


class Fault(Enum):
    """What happens to a connection when its bytes are spent."""

    RESET = "both sides get RST"
    FINISH = "both sides get FIN, in the middle of whatever was sent"
    HALF_TO_CLIENT = "the client gets FIN, the server hears nothing before the client's answer"
    HALF_TO_SERVER = "the server gets FIN, the client may read on"
    STALL = "nothing moves for a while, then RST"


@dataclass(frozen=True, slots=True)
class Cut:
    """A fault, after so many bytes from the server."""

    fault: Fault
    after: int


@dataclass(slots=True)
class Cuts:
    """Cuts to come, chosen by a seed: `left` of them, one to a connection; then none.

    Bytes lie between `least` and `most`; small ones are as frequent as large ones.
    """

    seed: int
    left: int
    least: int = 64
    most: int = 60_000
    faults: Sequence[Fault] = tuple(Fault)
    done: Counter[Fault] = field(default_factory=Counter)
    _dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        """Throw from the seed."""
        self._dice = random.Random(self.seed)  # noqa: S311 (repeatable, not secret)

    def next(self) -> Cut | None:
        """Return the cut of a new connection."""
        if not self.left:
            return None
        span = self.most / self.least
        after = round(self.least * span ** self._dice.random())
        return Cut(self._dice.choice(self.faults), after)

    def happened(self, cut: Cut) -> bool:
        """Count a cut; False where enough others came before it."""
        if not self.left:
            return False
        self.left -= 1
        self.done[cut.fault] += 1
        return True


@dataclass(slots=True)
class Proxy:
    """Where clients connect to, and what is done to them. Times in seconds.

    Each chunk waits up to `delay`; `bytes_per_second` bounds what a client is given.
    """

    target: int
    cuts: Cuts | None = None
    delay: float = 0.0
    stall: float = 0.3
    bytes_per_second: float = 0.0
    port: int = 0
    _open: set[asyncio.Task[None]] = field(default_factory=set)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _silent: set[asyncio.StreamWriter] = field(default_factory=set)

    def silence(self) -> None:
        """Let nothing pass any more that is open now, as where the other machine vanished."""
        self._silent |= self._writers

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            with contextlib.suppress(OSError):
                up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target)
                await self._join(reader, writer, up_reader, up_writer)
        except asyncio.CancelledError:
            pass  # the proxy ends; asyncio's server would report it as a fault
        finally:
            _reset(writer)
            self._open.discard(task)

    async def _join(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> None:
        upward = asyncio.create_task(self._copy(reader, up_writer))
        try:
            await self._downward(up_reader, writer, up_writer)
        finally:
            upward.cancel()
            await asyncio.wait({upward})
            _reset(up_writer)

    async def _downward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_writer: asyncio.StreamWriter,
    ) -> None:
        cut = self.cuts.next() if self.cuts else None
        if cut is None:
            await self._copy(reader, writer)
        elif await self._copy(reader, writer, cut.after) and self.cuts and self.cuts.happened(cut):
            await self._break(cut.fault, reader, writer, up_writer)
        else:
            await self._copy(reader, writer)

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int | None = None
    ) -> bool:
        """Copy to the end, or so many bytes; tell whether it were these."""
        self._writers.add(writer)
        while left is None or left > 0:
            data = await reader.read(_CHUNK if left is None else min(_CHUNK, left))
            if writer in self._silent:
                await asyncio.Event().wait()
            if not data:
                with contextlib.suppress(OSError, RuntimeError):
                    writer.write_eof()
                return False
            if self.delay or self.bytes_per_second:
                await asyncio.sleep(self._pause(len(data)))
            writer.write(data)
            await writer.drain()
            left = None if left is None else left - len(data)
        return True

    def _pause(self, size: int) -> float:
        slow = size / self.bytes_per_second if self.bytes_per_second else 0.0
        return slow + self.delay * random.random()  # noqa: S311 (a pause, no secret)

    async def _break(
        self,
        fault: Fault,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_writer: asyncio.StreamWriter,
    ) -> None:
        match fault:
            case Fault.RESET:
                return  # what closes the sockets resets them
            case Fault.FINISH:
                for each in (writer, up_writer):
                    each.close()
                    await each.wait_closed()
                return
            case Fault.HALF_TO_CLIENT:
                writer.write_eof()
            case Fault.HALF_TO_SERVER:
                up_writer.write_eof()
                await self._within_stall(self._copy(reader, writer))
                return
            case Fault.STALL:
                pass
        await asyncio.sleep(self.stall)

    async def _within_stall(self, copying: Coroutine[None, None, bool]) -> None:
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(self.stall):
                await copying

    async def close(self) -> None:
        """Reset what is open."""
        for task in tuple(self._open):
            task.cancel()
        if self._open:
            await asyncio.wait(tuple(self._open))


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, AttributeError):
        found: socket.socket = writer.get_extra_info("socket")
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


@asynccontextmanager
async def running_proxy(
    target: int, cuts: Cuts | None = None, **given: float
) -> AsyncIterator[Proxy]:
    """Serve a proxy before a port of this machine."""
    proxy = Proxy(target, cuts, **given)  # type: ignore[arg-type]  # fields of the dataclass
    server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
