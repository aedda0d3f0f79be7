"""The wire of a WebSocket, with memory that does not depend on what a client does or leaves undone.

uvicorn's own protocol holds, per connection, as much as its client likes: an answer to each ping
although none is read, an object for each fragment of a message, all messages of a read, and after
the end what was never read.
"""

from __future__ import annotations

import asyncio
import codecs
import logging
from collections.abc import Sequence
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

_log = logging.getLogger(__name__)
_NO_UTF8 = 1007  # RFC 6455 7.4.1
_SLICE = 4096  # bytes that are parsed before the messages in them are taken


class BoundedProtocol(WebSocketsSansIOProtocol):
    """Reads no further than its application, and forgets who does not read."""

    flush_seconds = 10.0  # for what was written to be read, once the connection has ended

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unparsed = bytearray()
        self._pong = b""
        self._abort: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Parse what the application has room for; the rest waits, and the transport with it."""
        self._unparsed += data
        self._parse()

    async def receive(self) -> Any:
        """Return the next message, and parse the next."""
        message = await super().receive()
        self._parse()
        return message

    async def send(self, message: Any) -> None:
        """Send, and look for the answer to a close."""
        await super().send(message)
        self._parse()

    def _parse(self) -> None:
        while self._unparsed and not self.read_paused and not self.transport.is_closing():
            piece = bytes(self._unparsed[:_SLICE])
            del self._unparsed[:_SLICE]
            super().data_received(piece)

    def handle_text(self, event: Frame) -> None:
        """Begin a message that grows in one piece."""
        super().handle_text(_growing(event))

    def handle_bytes(self, event: Frame) -> None:
        """Begin a message that grows in one piece."""
        super().handle_bytes(_growing(event))

    def handle_cont(self, event: Frame) -> None:
        """Add to the message; thousands of empty fragments are nothing."""
        self.frames[0] += event.data
        if event.fin:
            self.send_receive_event_to_app()

    def send_receive_event_to_app(self) -> None:
        """Pass a message on; text that is no UTF-8 ends the connection, and is no fault of ours."""
        if self.curr_msg_data_type == "text" and not _is_utf8(self.frames):
            _log.info("websocket closed: its text is no UTF-8")
            self.frames = []
            self.conn.send_close(_NO_UTF8)
            self.handle_parser_exception()
            return
        super().send_receive_event_to_app()

    def handle_ping(self) -> None:
        """Answer, or where answers are not read keep the newest, which RFC 6455 5.5.3 allows."""
        pong = b"".join(self.conn.data_to_send())
        if self.writable.is_set() or self.conn.close_sent is not None:
            self.transport.write(pong)
        elif pong:
            self._pong = pong

    def resume_writing(self) -> None:
        """Answer the ping that waits."""
        super().resume_writing()
        pong, self._pong = self._pong, b""
        if pong and not self.close_sent and not self.transport.is_closing():
            self.transport.write(pong)

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """Give the client a while to read the end: closing waits for that, be it for ever."""
        super().on_task_complete(task)
        if not self.disconnected:
            self._abort = self.loop.call_later(self.flush_seconds, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        if self._abort is not None:
            self._abort.cancel()
        self._unparsed.clear()
        super().connection_lost(exc)


def _is_utf8(pieces: Sequence[bytes]) -> bool:
    try:
        for piece in pieces:
            codecs.utf_8_decode(piece, "strict", True)
    except UnicodeDecodeError:
        return False
    return True


def _growing(event: Frame) -> Frame:
    if not event.fin:
        event.data = bytearray(event.data)
    return event
