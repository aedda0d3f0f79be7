"""A mesh to be attacked: its fault points are armed by the test, its effects seen from outside."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from gathering.gateway.v1 import auth_service_pb2
from gathering_client import Gathering
from gathering_client.login import ApiKey
from gathering_local.addresses import free_port
from gathering_local.processes import ProcessId
from tests.chaos import checker, witness
from tests.chaos.arming import Faults
from tests.chaos.world import World
from tests.e2e.mesh import LocalMesh
from tests.e2e.tenants import logged_in

ROOT = Path(__file__).parents[2]
INSIDE = ROOT / "tests" / "chaos" / "inside"


def superuser_dsn(mesh: LocalMesh) -> str:
    """Return the address at which a mesh's database shows everything."""
    password = (mesh.home.postgres / "superuser.password").read_text()
    return f"postgresql://postgres:{password}@{mesh.address('postgres')}/gathering"


@dataclass(frozen=True)
class ChaosMesh(LocalMesh):
    """A local mesh with so many replicas; parts are known by what the status file says."""

    @property
    def faults(self) -> Faults:
        """The fault points of all its processes."""
        folder = self.folder.with_name("faults")
        folder.mkdir(exist_ok=True)
        return Faults(folder)

    @property
    def witness(self) -> Path:
        """The file in which effects leave a line."""
        return self.folder.with_name("witness")

    @property
    def environment(self) -> dict[str, str]:
        """The environment of commands, and so of all that they start."""
        return super().environment | {
            **self.faults.environment,
            witness.VARIABLE: str(self.witness),
            "PYTHONPATH": os.pathsep.join(
                [str(INSIDE), str(ROOT), os.environ.get("PYTHONPATH", "")]
            ),
        }

    @property
    def dsn(self) -> str:
        """The superuser's address of its database."""
        return superuser_dsn(self)

    @property
    def parts(self) -> list[str]:
        """The names of its parts, as many as there are."""
        return [part.name for part in self.status.parts]

    def living(self) -> dict[str, ProcessId]:
        """Return the parts whose process runs now."""
        found = {part.name: ProcessId(part.pid, part.started) for part in self.status.parts}
        return {name: process for name, process in found.items() if process.alive()}

    def freeze(self, part: str) -> ProcessId:
        """Stop a process in the middle of whatever it does."""
        process = self.process(part)
        os.kill(process.pid, signal.SIGSTOP)
        return process

    def thaw(self, process: ProcessId) -> None:
        """Let a frozen process go on, if it still is."""
        if process.alive():
            os.kill(process.pid, signal.SIGCONT)

    async def expect(self) -> World:
        """Check what holds at every moment."""
        return await checker.expect(self.dsn, witness.effects(self.witness))

    async def expect_quiet(self, seconds: float = 120.0) -> World:
        """Wait until nothing moves any more and check everything."""
        return await checker.expect_quiet(
            self.dsn, lambda: witness.effects(self.witness), seconds=seconds
        )


@contextmanager
def chaos_mesh(replicas: int = 1) -> Iterator[ChaosMesh]:
    """Run a mesh of one's own."""
    with TemporaryDirectory(prefix="gathering-chaos-") as folder:
        Path(folder).chmod(0o711)  # PostgreSQL runs as another user when we are root.
        mesh = ChaosMesh(Path(folder) / "home", free_port(), replicas)
        try:
            mesh.up()
            yield mesh
        finally:
            mesh.down()


@asynccontextmanager
async def connected(mesh: ChaosMesh) -> AsyncIterator[Gathering]:
    """Connect with an API key: it outlives every token and every restart."""
    tenant = await asyncio.to_thread(logged_in, mesh, *mesh.admin)
    async with tenant.client() as first:
        key = await first.auth.CreateApiKey(
            auth_service_pb2.CreateApiKeyRequest(display_name="chaos")
        )
    async with Gathering(mesh.url, ApiKey(key.secret)) as connection:
        yield connection
