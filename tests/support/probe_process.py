"""The probe as a process of its own: `python -m tests.support.probe_process serve|crash|end`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gathering_mesh.process import run
from gathering_mesh.server import GrpcServer
from gathering_mesh.settings import ServiceSettings
from tests.support.probe import Authority, Probe, contract


class App:
    """A server and work that goes on, fails or ends."""

    def __init__(self, server: GrpcServer, mode: str) -> None:
        self.server = server
        self._mode = mode

    async def run(self) -> None:
        """Do what the mode says."""
        if self._mode == "crash":
            raise RuntimeError("the loop broke")
        if self._mode == "serve":
            await asyncio.Event().wait()


@asynccontextmanager
async def open_app(settings: ServiceSettings) -> AsyncIterator[App]:
    """Yield the probe."""
    server = GrpcServer(settings.server, Authority().authenticator())
    server.add(contract().services_by_name["ProbeService"], Probe())
    yield App(server, sys.argv[1])


if __name__ == "__main__":
    run(open_app, ServiceSettings(service="probe"))
