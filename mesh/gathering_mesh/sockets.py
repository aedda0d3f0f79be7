"""Notice that the other end of a connection is gone although it said nothing.

A machine that vanishes, or a network that forgets a connection, sends no end: without these options
a statement would wait for a quarter of an hour, and who only listens for ever.
"""

from __future__ import annotations

import asyncio
import socket

_PROBED_AFTER = 10  # seconds of silence
_PROBED_EVERY = 5  # seconds
_LOST_AFTER = 15  # seconds in which nothing was acknowledged
_OPTIONS = (
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", _PROBED_AFTER),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", _PROBED_EVERY),
    (socket.IPPROTO_TCP, "TCP_KEEPCNT", 2),
    (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", _LOST_AFTER * 1000),
)


def notice_silence(transport: asyncio.BaseTransport) -> None:
    """Have the kernel end a TCP connection whose other end does not answer for about 15 s."""
    found: socket.socket | None = transport.get_extra_info("socket")
    if found is None or found.family not in (socket.AF_INET, socket.AF_INET6):
        return
    for level, name, value in _OPTIONS:
        if (option := getattr(socket, name, None)) is not None:  # Linux has them all
            found.setsockopt(level, option, value)
