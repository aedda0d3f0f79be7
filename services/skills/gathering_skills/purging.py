"""Delete executions that ended long ago, tenant by tenant, once a day."""

from __future__ import annotations

from datetime import timedelta

from gathering_mesh.lease import Lease
from gathering_mesh.postgres import Transaction
from gathering_skills.models import PURGE
from gathering_skills.ports import ExecutionUpkeep

_ID = "executions"
_PAUSE = timedelta(days=1)
_BATCH = 1000


async def schedule_purge(tx: Transaction) -> None:
    """Have the tenant's executions looked through, from tomorrow on."""
    await tx.schedule(PURGE, _ID, _PAUSE)


class Purging:
    """Deletes what ended so many days ago."""

    def __init__(self, upkeep: ExecutionUpkeep, days: int) -> None:
        self._upkeep = upkeep
        self._days = days

    async def run(self, lease: Lease) -> None:
        """Delete a batch; come again at once if there may be more, tomorrow otherwise."""
        async with lease.transaction() as tx:
            count = await self._upkeep.purge(tx, self._days, _BATCH)
            more = count == _BATCH
            await lease.again(tx, None if more else _PAUSE)
