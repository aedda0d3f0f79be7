"""The service as processes that are killed, and what tells whether their turns came through."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from gathering.agent.v1 import session_pb2, turn_pb2
from gathering_mesh.errors import DomainError
from tests.integration.agent.peers import Issuer

ROOT = Path(__file__).parents[3]


@asynccontextmanager
async def serving_keys(issuer: Issuer) -> AsyncIterator[str]:
    """Serve the keys of users' tokens, as the gateway does."""

    async def jwks(_: object) -> JSONResponse:
        return JSONResponse(issuer.jwks())

    app = Starlette(routes=[Route("/jwks", jwks)])
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", lifespan="off")
    )
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # not ours
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/jwks"
    finally:
        server.should_exit = server.force_exit = True
        await task


@dataclass
class Replica:
    """The service as a process."""

    environment: dict[str, str]
    log: Path
    process: asyncio.subprocess.Process | None = None
    starts: int = 0

    async def start(self) -> None:
        """Start it."""
        with self.log.open("ab") as out:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "gathering_agent",
                env=self.environment, stdout=out, stderr=out, cwd=ROOT,
            )  # fmt: skip
        self.starts += 1

    @property
    def has_ended(self) -> bool:
        """Whether it was killed."""
        return self.process is not None and self.process.returncode is not None

    async def kill(self, number: int = signal.SIGKILL) -> int:
        """End it and wait for its end."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await self.process.wait()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


async def insisting(call: Callable[[], Awaitable[turn_pb2.Turn]]) -> turn_pb2.Turn:
    """Call until the replica is there again."""
    while True:
        try:
            return await call()
        except DomainError as error:
            assert error.status in ("UNAVAILABLE", "CANCELLED"), error.message
            await asyncio.sleep(0.05)


def said(messages: list[session_pb2.Message], turn_id: str) -> list[object]:
    """Return a transcript without what differs from turn to turn: ids and times."""
    return [
        (
            m.step,
            m.role,
            m.text,
            [(c.call_id.replace(turn_id, ""), c.tool, str(c.arguments)) for c in m.tool_calls],
            [(r.call_id.replace(turn_id, ""), r.failed, r.tool) for r in m.tool_results],
        )
        for m in messages
    ]
