"""All that a mesh has written, read at one moment: logs, tables of the mesh and the services."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from gathering.events.v1.event_pb2 import Event

Row = Mapping[str, Any]
Key = tuple[str, str]  # tenant and id
MESH_TABLES = ("aggregate", "consumer", "idempotency", "log_head", "parked", "replica", "work")
_SCHEMAS = """
select nspname from pg_namespace n
where exists (select from pg_class c where c.relnamespace = n.oid and c.relname = 'log_head')
order by nspname
"""
_TABLES = "select relname from pg_class where relnamespace = $1::regnamespace and relkind = 'r'"
_LOG = "select position, tenant_id, aggregate_id, version, event from {}.log order by position"
_OUTBOX = "select tenant_id, aggregate_id, version, event from {}.outbox order by seq"
# Large, and no invariant is about what they hold.
_UNREAD = {"log", "outbox", "posting", "embedding", "alembic_version", "recall_stat"}


@dataclass(frozen=True, slots=True)
class Entry:
    """An event that was committed; without a position it still waits in the outbox."""

    tenant: str
    aggregate_id: str
    version: int
    event: Event
    position: int | None = None

    @property
    def payload(self) -> Any:
        """Return what the event is about."""
        return getattr(self.event, self.event.type)


@dataclass(frozen=True)
class Schema:
    """What one service has written."""

    name: str
    logged: Sequence[Entry]
    waiting: Sequence[Entry]
    tables: Mapping[str, Sequence[Row]]

    @property
    def entries(self) -> Iterator[Entry]:
        """Return all committed events, in order."""
        yield from self.logged
        yield from self.waiting

    def histories(self) -> dict[Key, list[Entry]]:
        """Return the events of each aggregate, in order."""
        found: defaultdict[Key, list[Entry]] = defaultdict(list)
        for entry in self.entries:
            found[entry.tenant, entry.aggregate_id].append(entry)
        return found

    def rows(self, table: str) -> dict[Key, Row]:
        """Return the rows of a table by tenant and id."""
        return {(row["tenant_id"], row["id"]): row for row in self.tables[table]}


@dataclass(frozen=True, slots=True)
class Effect:
    """An effect that somebody outside of the mesh has seen: of which execution, of which kind."""

    kind: str  # once, keyed
    execution_id: str
    attempt: int


@dataclass(frozen=True)
class World:
    """A mesh at one moment, and what was seen outside of it."""

    schemas: Mapping[str, Schema]
    now: datetime  # by the database's clock
    effects: Sequence[Effect] = ()

    def get(self, name: str) -> Schema:
        """Return a service's schema; an empty one if the mesh does not have it."""
        return self.schemas.get(name) or Schema(name, (), (), defaultdict(tuple))


async def read(dsn: str, effects: Sequence[Effect] = ()) -> World:
    """Read everything as superuser, in one snapshot."""
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            names = [row["nspname"] for row in await connection.fetch(_SCHEMAS)]
            schemas = {name: await _schema(connection, name) for name in names}
            now = await connection.fetchval("select now()")
    finally:
        await connection.close()
    return World(schemas, now, effects)


async def _schema(connection: asyncpg.Connection, name: str) -> Schema:
    found = {row["relname"] for row in await connection.fetch(_TABLES, name)}
    tables = {
        table: [dict(row) for row in await connection.fetch(f"select * from {name}.{table}")]  # noqa: S608 - names from the catalogue
        for table in sorted(found - _UNREAD)
    }
    logged = [_entry(row, row["position"]) for row in await connection.fetch(_LOG.format(name))]
    waiting = [_entry(row, None) for row in await connection.fetch(_OUTBOX.format(name))]
    return Schema(name, logged, waiting, tables)


def _entry(row: Row, position: int | None) -> Entry:
    event = Event.FromString(row["event"])
    return Entry(row["tenant_id"], row["aggregate_id"], row["version"], event, position)
