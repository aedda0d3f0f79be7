"""Migrations: one Alembic history per schema, without an environment file of its own.

A service has a package `gathering_<svc>.migrations` with files `0001_<what>.py`, each with
`revision`, `down_revision` and `upgrade()`; there is no way down: expand, then contract. What such
a file needs beside Alembic's `op` is here as well. A revision is the number of its file: a service
then checks its schema without Alembic, whose import takes half a second.
"""

from __future__ import annotations

import asyncio
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from gathering_mesh.bootstrap import BootstrapError, bootstrap
from gathering_mesh.postgres import Database
from gathering_mesh.postgres_errors import sqlstate
from gathering_mesh.schema import mesh_tables, tenant_table

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext, RevisionStep
    from alembic.script import ScriptDirectory

__all__ = [
    "BootstrapError", "SchemaMismatch", "bootstrap", "check", "mesh_tables", "migrate",
    "tenant_table", "upgrade",
]  # fmt: skip
_ONE_IN_THIS_PROCESS = threading.Lock()  # Alembic's `op` is one for the whole process
_NO_SUCH_TABLE = "42P01"
_BOUND = "select not (rolsuper or rolbypassrls) from pg_roles where rolname = current_user"
_REVISIONS = "select version_num from alembic_version"


class SchemaMismatch(Exception):
    """The schema is not the one that this code knows; the service does not start."""


def upgrade(mig_dsn: str, package: str, schema: str | None = None) -> None:
    """Bring a schema to the newest revision of a package, as the role `<svc>_mig`.

    One at a time, under a lock of the session; the next finds nothing left to do. The schema is
    that of the package (`gathering_memory.migrations`: `memory`) unless named. Call it from a
    thread without an event loop, or await `migrate`.
    """
    with _ONE_IN_THIS_PROCESS:
        asyncio.run(_migrate(mig_dsn, package, schema or _schema_of(package)))


async def migrate(mig_dsn: str, package: str, schema: str | None = None) -> None:
    """Do the same from a coroutine."""
    await asyncio.to_thread(upgrade, mig_dsn, package, schema)


async def _migrate(mig_dsn: str, package: str, name: str) -> None:
    url = make_url(mig_dsn).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            lock = text("select pg_advisory_lock(hashtext('gathering.migration'), hashtext(:name))")
            await connection.execute(lock, {"name": name})
            await connection.commit()
            await connection.run_sync(_upgrade, _folder(package), name)
    finally:
        await engine.dispose()


async def check(db: Database, package: str | None = None) -> None:
    """Refuse (SchemaMismatch) a schema at another revision than the code's, or an unbound role."""
    wanted = {_newest(_folder(package or f"gathering_{db.schema}.migrations"))}
    async with db.system() as tx:
        try:
            found = {row["version_num"] for row in await tx.fetch(_REVISIONS)}
        except Exception as error:
            if sqlstate(error) != _NO_SUCH_TABLE:
                raise
            raise SchemaMismatch(f"schema {db.schema} was never migrated") from error
    if found != wanted:
        raise SchemaMismatch(
            f"schema {db.schema} is at {_listed(found)}, this code knows {_listed(wanted)}"
        )
    async with db.transaction("check") as serving:
        if not await serving.fetch_value(_BOUND):
            raise SchemaMismatch(f"the role of {db.schema} is not bound by row-level security")


def _upgrade(connection: Connection, folder: Path, schema: str) -> None:
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(folder, version_locations=[folder])

    def steps(revision: tuple[str, ...], _context: MigrationContext) -> list[RevisionStep]:
        return list(script._upgrade_revs("heads", revision))  # type: ignore[arg-type]

    _refuse_other_names(script)
    with EnvironmentContext(Config(), script, fn=steps) as environment:
        environment.configure(connection=connection, version_table_schema=schema)
        with environment.begin_transaction():
            environment.run_migrations()


def _refuse_other_names(script: ScriptDirectory) -> None:
    """Hold each file to its number, and all to one line: `check` relies on it."""
    newest = _newest(Path(script.dir))
    heads = set(script.get_heads())
    misnamed = [
        revision.path
        for revision in script.walk_revisions()
        if not Path(revision.path).name.startswith(f"{revision.revision}_")
    ]
    if misnamed or heads != {newest}:
        raise SchemaMismatch(f"revisions are not the numbers of their files: {misnamed or heads}")


def _newest(folder: Path) -> str:
    return max((path.name.partition("_")[0] for path in folder.glob("[0-9]*_*.py")), default="")


def _folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SchemaMismatch(f"there is no package {package}")
    return Path(spec.submodule_search_locations[0])


def _schema_of(package: str) -> str:
    return package.partition(".")[0].removeprefix("gathering_")


def _listed(revisions: set[str]) -> str:
    return ", ".join(sorted(revisions)) or "no revision"
