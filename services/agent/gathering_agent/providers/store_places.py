"""The line before providers that have a limit: who stands among the first may call.

Numbers are given and read under one lock for each provider, so that they stand in the order of
their commits. Places whose holder was killed are deleted when their lease has ended, under the same
lock: nobody comes back to a place that was given away.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from gathering_mesh.statements import Statements

_LOCK = "select pg_advisory_xact_lock(hashtextextended('agent.places ' || $1, 0))"
_EXPIRE = "delete from agent.places where provider = $1 and lease_until < clock_timestamp()"
_ENTER = """
insert into agent.places (provider, owner, lease_until)
values ($1, $2, clock_timestamp() + $3::interval) returning id
"""
_FIRST = """
select id from (
    select id, owner from agent.places where provider = $1 order by id limit $3
) as first where owner = $2
"""
_RENEW = """
update agent.places set lease_until = clock_timestamp() + $3::interval
where owner = $1 and id = any($2) returning id
"""
_LEAVE = "delete from agent.places where id = $1"


class PlaceStore:
    """See `ports.PlaceRows`."""

    async def enter(self, tx: Statements, provider: str, owner: str, lease: float) -> int:
        """Stand in line; return the place's number."""
        await tx.run(_LOCK, provider)
        return int(await tx.fetch_value(_ENTER, provider, owner, timedelta(seconds=lease)))

    async def first(self, tx: Statements, provider: str, owner: str, limit: int) -> Sequence[int]:
        """Return the owner's places among the first so many of the line."""
        await tx.run(_LOCK, provider)
        await tx.run(_EXPIRE, provider)
        return [row["id"] for row in await tx.fetch(_FIRST, provider, owner, limit)]

    async def renew(
        self, tx: Statements, owner: str, places: Sequence[int], lease: float
    ) -> Sequence[int]:
        """Keep places; return those that are still there."""
        rows = await tx.fetch(_RENEW, owner, list(places), timedelta(seconds=lease))
        return [row["id"] for row in rows]

    async def leave(self, tx: Statements, place: int) -> None:
        """Make room."""
        await tx.run(_LEAVE, place)
