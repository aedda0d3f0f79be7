"""How a stream begins where its caller hangs up in that moment."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import grpc
import pytest

from gathering_mesh.pipeline import _open


class Hangs:
    """A call of which the headers are being sent until its caller is gone."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.sending = asyncio.Event()

    async def send_initial_metadata(self, metadata: object) -> None:
        self.sending.set()
        await self.gone.wait()
        raise grpc.aio.InternalError("nobody is there")


async def test_caller_that_hangs_up_while_headers_are_sent_is_no_fault() -> None:
    call = Hangs()
    opening = asyncio.create_task(_open(cast("Any", call)))
    await call.sending.wait()
    opening.cancel()
    await asyncio.sleep(0)
    call.gone.set()
    with pytest.raises(asyncio.CancelledError):
        await opening
