"""The service as a process of its own, for tests that kill it; it prints its port."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc

from gathering_mesh import process
from gathering_mesh.keys import keys_of, read_jwks
from gathering_skills.app import SkillsApp, open_app
from gathering_skills.settings import SkillsSettings
from gathering_skills.tools.standard import SKILLS
from tests.integration.skills.harness import Caller, Issuer, settings_of
from tests.integration.skills.probe_skill import SKILL as PROBE
from tests.support.postgres import TestDatabase
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[3]


def main(told: dict[str, Any]) -> None:
    """Serve as the real process does, with the tools of the tests beside the usual ones."""
    users = keys_of(lambda: read_jwks(told["jwks"]))

    @asynccontextmanager
    async def opened(settings: SkillsSettings) -> AsyncIterator[SkillsApp]:
        async with open_app(settings, users=users, skills=(*SKILLS, PROBE)) as app:
            told_port = asyncio.create_task(tell_port(app))
            yield app
            await told_port

    process.run(opened, SkillsSettings.model_validate(told["settings"]))


async def _listens(app: SkillsApp) -> bool:
    return app.server.port != 0


async def tell_port(app: SkillsApp) -> None:
    """Print the port once there is one."""
    await eventually(partial(_listens, app), "the service listens")
    os.write(1, f"{app.server.port}\n".encode())


@dataclass(frozen=True)
class Replica:
    """A running process and the way to it."""

    process: asyncio.subprocess.Process
    channel: grpc.aio.Channel
    issuer: Issuer

    def as_seen_from(self, caller: Caller) -> Caller:
        """Return the same caller, who calls this replica."""
        return Caller(
            self.channel,
            self.issuer,
            caller.tenant,
            caller.user,
            caller.role,
            caller.actor,
            caller.scopes,
        )

    async def kill(self) -> None:
        """End it at once, wherever it is."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


async def start(
    database: TestDatabase, issuer: Issuer, folder: Path, roots: tuple[str, ...], **more: Any
) -> Replica:
    """Start a process that serves."""
    settings = settings_of(database, issuer, folder, roots, log_level="error", **more)
    told = {"settings": settings.model_dump(mode="json"), "jwks": issuer.jwks()}
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.skills.process",
        json.dumps(told),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert started.stdout
    port = int((await asyncio.wait_for(started.stdout.readline(), 30)) or 0)
    assert port, "the service did not start"
    return Replica(started, grpc.aio.insecure_channel(f"127.0.0.1:{port}"), issuer)


@asynccontextmanager
async def replica(
    database: TestDatabase, issuer: Issuer, folder: Path, roots: tuple[str, ...], **more: Any
) -> AsyncIterator[Replica]:
    """Start a process and kill it at the end."""
    started = await start(database, issuer, folder, roots, **more)
    try:
        yield started
    finally:
        await started.kill()
        await started.channel.close()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
