"""A mesh of its own for the tests, started and stopped by the command itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gathering_local.addresses import ADMIN_EMAIL
from gathering_local.home import Home
from gathering_local.layout import service_of
from gathering_local.processes import ProcessId
from gathering_local.supervisor import Status, read_status

SERVICES = ("agent", "gateway", "memory", "orchestrator", "skills")
COMMAND = Path(sys.executable).with_name("gathering")
_POLL_SECONDS = 0.02
# What would lead a command elsewhere, or an agent to a model that costs money.
_FOREIGN = ("GATHERING_", "ANTHROPIC_", "OPENAI_", "DEEPSEEK_", "DATABASE_URL", "REDIS_URL")


@dataclass(frozen=True)
class Ended:
    """What a command said."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class LocalMesh:
    """A mesh over one folder; what it says of itself is read anew each time."""

    folder: Path
    port: int
    replicas: int = 1

    @property
    def home(self) -> Home:
        """The folder as the mesh sees it."""
        return Home(self.folder)

    @property
    def url(self) -> str:
        """The edge."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin(self) -> tuple[str, str]:
        """E-mail and password of the first user."""
        return ADMIN_EMAIL, self.home.secret("admin")

    @property
    def environment(self) -> dict[str, str]:
        """The environment of commands that are to find this mesh and no other."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}
        return kept | {
            "GATHERING_HOME": str(self.folder),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "NO_COLOR": "1",
            "COLUMNS": "200",
        }

    def command(
        self,
        *arguments: str,
        typed: str = "",
        timeout: float = 180.0,
        environment: Mapping[str, str] | None = None,
    ) -> Ended:
        """Run `gathering ...` to its end."""
        done = subprocess.run(
            [COMMAND, *arguments],
            env={**self.environment, **(environment or {})},
            input=typed,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def up(self) -> str:
        """Start it and wait until it is ready; return what the command said."""
        ended = self.command("up", "--port", str(self.port), "--replicas", str(self.replicas))
        assert ended.code == 0, f"{ended.out}\n{ended.err}"
        return ended.out

    def down(self) -> None:
        """Stop it."""
        ended = self.command("down")
        assert ended.code == 0, ended.err

    @property
    def status(self) -> Status:
        """What the supervisor says."""
        found = read_status(self.home)
        assert found is not None, "the mesh was never started"
        return found

    def address(self, part: str) -> str:
        """Return where a part itself listens."""
        return next(each.address for each in self.status.parts if each.name == part)

    def process(self, part: str) -> ProcessId:
        """Return the process of a part."""
        found = next(each for each in self.status.parts if each.name == part)
        return ProcessId(found.pid, found.started)

    def of(self, *services: str) -> list[str]:
        """Return the names of all replicas of these services."""
        return [each.name for each in self.status.parts if service_of(each.name) in services]

    def processes(self) -> list[ProcessId]:
        """Return the supervisor and all parts."""
        return [self.status.supervisor, *(self.process(each.name) for each in self.status.parts)]

    def kill(self, *parts: str) -> list[ProcessId]:
        """Kill -9 the processes of these parts; return them."""
        found = [self.process(part) for part in parts]
        for process in found:
            assert process.alive()
            os.kill(process.pid, 9)
        return found

    def restart(self, *parts: str) -> None:
        """Kill -9 parts and wait until all of them serve again."""
        killed = set(self.kill(*parts))
        self.until_ready(killed)

    def until_ready(self, ended: set[ProcessId] | None = None, seconds: float = 60.0) -> None:
        """Wait until all parts serve, none of them by a process that has ended."""
        deadline = time.monotonic() + seconds
        while not self._ready(ended or set()):
            assert time.monotonic() < deadline, json.dumps(self._told(), indent=1)
            time.sleep(_POLL_SECONDS)

    def _ready(self, ended: set[ProcessId]) -> bool:
        status = self.status
        fresh = {ProcessId(each.pid, each.started) for each in status.parts}.isdisjoint(ended)
        return status.ready and fresh and all(each.state == "ready" for each in status.parts)

    def _told(self) -> dict[str, str]:
        return {each.name: f"{each.state} {each.message}" for each in self.status.parts}

    def environment_of(self, part: str) -> dict[str, str]:
        """Return the environment in which a part runs."""
        text = Path("/proc", str(self.process(part).pid), "environ").read_text()
        return dict(line.split("=", 1) for line in text.split("\0") if "=" in line)
