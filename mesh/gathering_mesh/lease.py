"""Work that this process holds: what a handler is given, and how it ends it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from gathering_mesh import faults, work_rows
from gathering_mesh.call import Call
from gathering_mesh.postgres import Database, Transaction
from gathering_mesh.work_rows import Done, Due, Key


class LeaseLost(Exception):
    """Somebody else holds the work now, or it was deleted; nothing of this transaction counts."""


class HandOver(Exception):
    """Raised by a handler at a good place to stop while the process drains: give the work back."""


class Lease:
    """One piece of work, held under a fence that no other holder has had or will have.

    `attempt` counts from 1 and starts anew after `again`. `draining` asks a long handler to stop
    at its next good place by raising HandOver. `due_by`: work that fails before that is tried again
    then at the latest, however long the pause would be.
    """

    def __init__(self, db: Database, key: Key, attempt: int, lease: timedelta) -> None:
        self.tenant, self.kind, self.id, self._owner, self.fence = key
        self.attempt = attempt
        self.draining = False
        self.due_by: datetime | None = None
        self.settled = False
        self._db = db
        self._key = key
        self._lease = lease

    @asynccontextmanager
    async def transaction(self, call: Call | None = None) -> AsyncIterator[Transaction]:
        """Open a transaction of the work's tenant that commits only while the lease is held.

        The work's row is locked first, so no one can take it over before the commit. With a call,
        events name its user as their cause. Raises LeaseLost.
        """
        try:
            async with self._db.transaction(call or self.tenant) as tx:
                self._expect(await work_rows.lock(tx, self._key, self._lease))
                await faults.point("work.locked")
                yield tx
                if self.settled:
                    await faults.point("work.settled")
        except BaseException:
            self.settled = False
            raise

    async def done(self, tx: Transaction) -> None:
        """End the work with this transaction, unless it was scheduled again while it ran."""
        became = await work_rows.done(tx, self._key)
        self._expect(became is not Done.LOST)
        self.settled = True
        tx.scheduled = tx.scheduled or became is Done.DUE_AGAIN

    async def again(self, tx: Transaction, due: Due = None) -> None:
        """Make the work due once more with this transaction, at a time or after a while."""
        self._expect(await work_rows.again(tx, self._key, due))
        self.settled = tx.scheduled = True

    def _expect(self, held: bool) -> None:
        if not held:
            raise LeaseLost(f"{self.kind} {self.id} is held by another or gone")
