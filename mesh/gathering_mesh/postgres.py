"""The database of a service: transactions bound to a tenant, with events, work and idempotency.

Two roles, two pools: `<svc>` sees one tenant, set for each transaction in one place here;
`<svc>_sys` sees the mesh's own tables of all tenants and nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from gathering.events.v1 import event_pb2
from gathering_mesh import envelope, faults, idempotency, outbox, work_rows
from gathering_mesh.call import Call
from gathering_mesh.events import DomainEvent
from gathering_mesh.idempotency import Finished, IdempotencySettings
from gathering_mesh.nudge import Nudge
from gathering_mesh.session import Pool
from gathering_mesh.statements import Statements
from gathering_mesh.work_rows import Due


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """Where the database is and how many connections to it a process holds. Times in seconds.

    `url` is that of the role `<svc>`, `system_url` that of `<svc>_sys`. Behind PgBouncer in
    transaction mode: `statement_cache_size=0`, its `ignore_startup_parameters = search_path` (the
    roles have the same path), and the listener needs `listen_url`, direct.
    """

    url: str = field(repr=False)
    system_url: str = field(repr=False)
    listen_url: str = field(default="", repr=False)
    pool_size: int = 8
    system_pool_size: int = 4
    pool_timeout: float = 5.0
    connect_timeout: float = 5.0
    statement_cache_size: int = 100
    idempotency: IdempotencySettings = field(default_factory=IdempotencySettings)


class Transaction(Statements):
    """A transaction in one tenant; it commits where its `async with` ends without an exception.

    `replay` is the result of the first call when a mutation is a repetition; then read, do not
    write. `result` is the id that a later repetition will be told.
    """

    def __init__(self, connection: AsyncConnection, driver: Any, tenant: str) -> None:
        super().__init__(connection, driver)
        self.tenant = tenant
        self.replay: str | None = None
        self.result: str | None = None
        self.cause: event_pb2.Cause | None = None
        self.trace_id = ""
        self.source = ""
        self.events: list[event_pb2.Event] = []
        self.scheduled = False
        self.finished: Finished | None = None

    def attribute(self, call: Call) -> None:
        """Name who caused the events of this transaction, where it was not opened for a call."""
        self.cause = envelope.cause_of_call(call)
        self.trace_id = envelope.trace_id_of(call.trace)

    def emit(self, aggregate_id: str, event: DomainEvent, audience: Sequence[str] = ()) -> None:
        """Write an event with this transaction, as the next of its aggregate.

        `audience` names the users who may see it beside the tenant's administrators; empty: all of
        the tenant.
        """
        self.events.append(
            envelope.build(
                self.source,
                aggregate_id,
                event,
                audience=audience,
                cause=self.cause,
                trace_id=self.trace_id,
            )
        )

    async def schedule(self, kind: str, id: str, due: Due = None) -> None:
        """Make work due at a time, or after a while by the database's clock (None: now).

        Idle work is moved to this time, earlier or later; work that runs becomes due once more,
        at the earliest time asked for, when it is done.
        """
        await work_rows.schedule(self, self.tenant, kind, id, due)
        self.scheduled = True

    async def unschedule(self, kind: str, id: str) -> None:
        """Delete work; a handler that runs it is cancelled within a renewal."""
        await work_rows.unschedule(self, self.tenant, kind, id)


class Database:
    """The pools of one service; made by `Database.open`."""

    def __init__(self, settings: DatabaseSettings, schema: str) -> None:
        self.settings = settings
        self.schema = schema
        self.events_written = Nudge()
        self.work_scheduled = Nudge()
        self._pool = _pool(settings.url, settings.pool_size, settings, schema)
        self._system_pool = _pool(settings.system_url, settings.system_pool_size, settings, schema)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: DatabaseSettings, schema: str) -> AsyncIterator[Database]:
        """Open the database of the service with this schema; it connects when it needs to."""
        database = cls(settings, schema)
        try:
            yield database
        finally:
            await database._pool.close()
            await database._system_pool.close()

    @asynccontextmanager
    async def transaction(
        self, who: Call | str, *, durable: bool = True
    ) -> AsyncIterator[Transaction]:
        """Open a transaction in the tenant of a call, or in the tenant named.

        Without `durable` the commit does not wait for the disk: a crash of the database may take
        it back, whole, as one of the last. For what is then done again by itself.

        Raises what the database refuses as errors of ours: Aborted (a conflict; repeat),
        DatabaseUnavailable, DatabaseBusy, DeadlineExceeded. Broken constraints are the store's to
        recognise, see `postgres_errors.unique`.
        """
        tenant = who if isinstance(who, str) else who.tenant
        if not tenant:
            raise ValueError("a transaction needs a tenant")
        async with self._pool.session(tenant, durable=durable) as (connection, driver):
            tx = Transaction(connection, driver, tenant)
            tx.source = self.schema
            if not isinstance(who, str):
                tx.attribute(who)
            yield tx
            if tx.events:
                await outbox.append(tx, tenant, tx.events, tx.finished)
                await faults.point("transaction.flushed")
            elif tx.finished:
                await idempotency.finish(tx, tx.finished)
        await faults.point("transaction.committed")
        self._nudge(tx)

    @asynccontextmanager
    async def mutation(self, call: Call) -> AsyncIterator[Transaction]:
        """Open a transaction that happens once per request id of the call, if it has one.

        The body sets `tx.result`; a repetition finds it in `tx.replay`. Raises Aborted
        (REQUEST_IN_PROGRESS) beside a twin that takes longer than a second, InvalidArgument
        (REQUEST_ID_REUSED) for the id of another request, and as `transaction` does.
        """
        async with self.transaction(call) as tx:
            if call.request_key is None:
                yield tx
                return
            key = idempotency.key_of(tx.tenant, call, call.request_key)
            settings = self.settings.idempotency
            tx.replay = await idempotency.claim(tx, key, call.request_key.digest, settings)
            yield tx
            if tx.replay is None:
                if not tx.result:
                    raise RuntimeError(f"{call.method} did not set tx.result")
                tx.finished = Finished(key, tx.result)
            await faults.point("mutation.finished")
        await faults.point("mutation.committed")

    async def earlier(self, call: Call) -> str | None:
        """Return the result of the mutation with this request id, if it has ended.

        To spare a repetition dear work outside of transactions; `mutation` decides all the same.
        Raises InvalidArgument (REQUEST_ID_REUSED) as that does.
        """
        if call.request_key is None:
            return None
        key = idempotency.key_of(call.tenant, call, call.request_key)
        async with self.transaction(call) as tx:
            return await idempotency.look(
                tx, key, call.request_key.digest, self.settings.idempotency
            )

    @asynccontextmanager
    async def system(self) -> AsyncIterator[Statements]:
        """Open a transaction as `<svc>_sys`: the mesh's own tables, all tenants."""
        async with self._system_pool.session("") as (connection, driver):
            yield Statements(connection, driver)

    def _nudge(self, tx: Transaction) -> None:
        if tx.events:
            self.events_written.give()
        if tx.scheduled:
            self.work_scheduled.give()


def _pool(url: str, size: int, settings: DatabaseSettings, schema: str) -> Pool:
    return Pool(
        url,
        schema,
        size=size,
        wait=settings.pool_timeout,
        connect=settings.connect_timeout,
        statements=settings.statement_cache_size,
    )
