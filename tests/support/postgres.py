"""A database per test, cloned from a template that is migrated once per run."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import asyncpg
from filelock import FileLock

from gathering_mesh import migration
from tests.support.keeper import SOCKET

_START_SECONDS = 40.0
_POLL_SECONDS = 0.05
_NAMES = count()
# A service that exists for tests alone.
_MIGRATIONS = {"probe": "tests.support.probe_migrations"}


@dataclass(frozen=True)
class Server:
    """The PostgreSQL server of this test run."""

    port: int
    password: str

    def dsn(self, user: str, database: str) -> str:
        """Return the address of a database for a role; every role of a test has this password."""
        return f"postgresql://{user}:{self.password}@127.0.0.1:{self.port}/{database}"

    @contextlib.asynccontextmanager
    async def admin(self, database: str = "postgres") -> AsyncIterator[asyncpg.Connection]:
        """Connect as the superuser."""
        connection = await asyncpg.connect(self.dsn("postgres", database))
        try:
            yield connection
        finally:
            await connection.close()


@dataclass(frozen=True)
class TestDatabase:
    """A migrated, empty database of one test."""

    __test__ = False
    server: Server
    name: str

    @property
    def admin(self) -> str:
        """The superuser's address: sees everything, policies do not bind it."""
        return self.server.dsn("postgres", self.name)

    def app(self, service: str) -> str:
        """Return the address for the role of the service: bound to a tenant."""
        return self.server.dsn(service, self.name)

    def system(self, service: str) -> str:
        """Return the address for the role of the service's machinery: log, work, replica."""
        return self.server.dsn(f"{service}_sys", self.name)

    def migrator(self, service: str) -> str:
        """Return the address for the role that owns the service's schema."""
        return self.server.dsn(f"{service}_mig", self.name)

    async def lock_waits(self) -> int:
        """Return how many wait for locks; asked anew: a transaction keeps what it saw of that."""
        async with self.server.admin(self.name) as admin:
            waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
            return int(await admin.fetchval(f"{waiting} and datname = current_database()"))


@contextlib.contextmanager
def shared_server(run: str) -> Iterator[Server]:
    """Join the server of the test run, starting it if nobody has."""
    # A short path: that of a Unix socket has 107 bytes at most.
    base = Path(tempfile.gettempdir(), f"gathering-tests-{os.getuid()}")
    base.mkdir(mode=0o711, exist_ok=True)
    folder = base / run[:12]
    with FileLock(base / "lock"):
        membership, server = _join(folder) or _start(folder)
    try:
        yield server
    finally:
        membership.close()


def _join(folder: Path) -> tuple[socket.socket, Server] | None:
    membership = socket.socket(socket.AF_UNIX)
    try:
        membership.connect(str(folder / SOCKET))
        with membership.makefile("rb") as greeting:
            return membership, Server(**json.loads(greeting.readline()))
    except (OSError, ValueError):  # None there, or one that is about to end.
        membership.close()
        return None


def _start(folder: Path) -> tuple[socket.socket, Server]:
    folder.mkdir(mode=0o711, exist_ok=True)
    log = folder / "keeper.log"
    with log.open("wb") as output:  # Never our own output: in a worker that is xdist's channel.
        keeper = subprocess.Popen(
            [sys.executable, "-m", "tests.support.keeper", str(folder)],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and keeper.poll() is None:
        if joined := _join(folder):
            keeper.returncode = 0  # Not ours to wait for: it stays while any process needs it.
            return joined
        time.sleep(_POLL_SECONDS)
    said = next((f.read_text() for f in folder.parent.glob(f"{folder.name}*/keeper.log")), "")
    raise RuntimeError(f"the test server did not start: {said}")


# Nothing waits for the disk here, so copies of files cost less than pages in the write-ahead log.
_COPY = "CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY"


class Databases:
    """Makes databases on the server; one instance per test process."""

    def __init__(self, server: Server) -> None:
        """Remember the server; nothing is made yet."""
        self.server = server
        self._templates: dict[tuple[str, ...], str] = {}

    async def create(self, *services: str) -> TestDatabase:
        """Return a new database with the schemas of these services (at least one)."""
        if services not in self._templates:
            self._templates[services] = await self._template(services)
        name = f"test_{os.getpid()}_{next(_NAMES)}"
        async with self.server.admin() as admin:
            await admin.execute(_COPY.format(name, self._templates[services]))
            await _copy_grants(admin, self._templates[services], name)
        return TestDatabase(self.server, name)

    async def copy(self, database: TestDatabase) -> TestDatabase:
        """Return a copy, as of a backup that is restored; nobody may be connected to it."""
        name = f"test_{os.getpid()}_{next(_NAMES)}"
        async with self.server.admin() as admin:
            await admin.execute(_COPY.format(name, database.name))
            await _copy_grants(admin, database.name, name)
        return TestDatabase(self.server, name)

    async def drop(self, database: TestDatabase) -> None:
        """Remove the database, whoever is still connected."""
        async with self.server.admin() as admin:
            await admin.execute(f"DROP DATABASE IF EXISTS {database.name} WITH (FORCE)")

    async def _template(self, services: tuple[str, ...]) -> str:
        name = f"template_{'_'.join(services)}"
        async with self.server.admin() as admin:
            # One process makes it, the others wait for it here.
            await admin.execute("SELECT pg_advisory_lock(hashtext($1))", name)
            if not await admin.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
                await self._make(admin, f"{name}_new", services)
                await admin.execute(f"ALTER DATABASE {name}_new RENAME TO {name}")
        return name

    async def _make(self, admin: asyncpg.Connection, name: str, services: tuple[str, ...]) -> None:
        await admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        for service in services:
            await _migrate(self.server, name, service)


async def _migrate(server: Server, database: str, service: str) -> None:
    roles = (service, f"{service}_sys", f"{service}_mig")
    passwords = dict.fromkeys(roles, server.password)
    await migration.bootstrap(server.dsn("postgres", database), service, passwords)
    dsn = server.dsn(f"{service}_mig", database)
    await migration.migrate(
        dsn, _MIGRATIONS.get(service, f"gathering_{service}.migrations"), service
    )


async def _copy_grants(admin: asyncpg.Connection, source: str, target: str) -> None:
    """Give roles on the new database what they have on its template: a clone takes no grants."""
    grants = await admin.fetch(
        "SELECT privilege_type, grantee::regrole::text AS role FROM pg_database, aclexplode(datacl)"
        " WHERE datname = $1 AND grantee <> 0",
        source,
    )
    public = await admin.fetchval("SELECT has_database_privilege('public', $1, 'CONNECT')", source)
    statements = [
        f"GRANT {g['privilege_type']} ON DATABASE {target} TO {g['role']}" for g in grants
    ]
    if not public:
        statements.append(f"REVOKE ALL ON DATABASE {target} FROM PUBLIC")
    await admin.execute("; ".join(statements))
