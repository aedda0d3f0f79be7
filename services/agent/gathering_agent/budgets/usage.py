"""What model calls used: the same rows as budgets are booked from."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from gathering_agent.budgets.models_usage import After, Period, UsageQuery, UsageRow
from gathering_agent.errors import BadPeriod, TurnNotFound
from gathering_agent.ports import Rows
from gathering_agent.providers.models_calls import Place, RecordedAttempt
from gathering_agent.sessions.sessions import may_see
from gathering_mesh.call import Call
from gathering_mesh.postgres import Database

_DEFAULT = timedelta(days=30)
_BEGINNING = datetime.min.replace(tzinfo=UTC)


class UsageReport:
    """Tells usage."""

    def __init__(self, db: Database, rows: Rows) -> None:
        self._db = db
        self._rows = rows

    async def page(
        self, call: Call, query: UsageQuery, period: Period, after: After | None, limit: int
    ) -> list[UsageRow]:
        """Return what calls used that the caller may know of; administrators know of all."""
        user = "" if may_see(call, "") else call.user
        query = replace(query, which=replace(query.which, user_id=user))
        async with self._db.transaction(call) as tx:
            return await self._rows.usage.page(tx, query, period, after=after, limit=limit)

    async def attempts(
        self, call: Call, turn_id: str, after: Place | None, limit: int
    ) -> list[RecordedAttempt]:
        """Return the attempts at model calls of a turn that the caller may see; TurnNotFound."""
        async with self._db.transaction(call) as tx:
            turn = await self._rows.turns.get(tx, turn_id)
            if not may_see(call, turn.owner_user_id):
                raise TurnNotFound(turn_id)
            return await self._rows.usage.attempts(tx, turn_id, after=after, limit=limit)


def period_of(start: datetime | None, end: datetime | None) -> Period:
    """Return the period that is asked for; the last 30 days where nothing is said; BadPeriod."""
    end = end or datetime.now(UTC)
    start = start or _BEGINNING + max(end - _BEGINNING - _DEFAULT, timedelta())
    if start >= end:
        raise BadPeriod("no time", fields={"end_time": "must be after start_time"})
    return Period(start, end)
