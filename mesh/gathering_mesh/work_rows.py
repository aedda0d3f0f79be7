"""The statements on the work table: what is due, who holds it, until when, under which fence.

A fence is drawn from a sequence at each claim, so none comes twice, not even for a row that was
deleted and made again. Every write of a holder names its fence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import IntEnum

from gathering_mesh.statements import Row, Statements

# Work that runs is not taken from its holder: `again_at` makes it due once more when it is done.
_SCHEDULE = """
insert into work as w (tenant_id, kind, id, due_at)
values ($1, $2, $3, coalesce($4::timestamptz, now() + $5::interval))
on conflict (tenant_id, kind, id) do update set
    due_at = case when w.owner is null then excluded.due_at else w.due_at end,
    again_at = case when w.owner is null then null else least(w.again_at, excluded.due_at) end,
    attempt = case when w.owner is null then 0 else w.attempt end
"""
# For a row that nobody else can know of yet. The role of the service needs `usage` on the sequence.
_TAKE = """
insert into work (tenant_id, kind, id, due_at, owner, lease_until, fence, attempt)
values ($1, $2, $3, now(), $4, now() + $5::interval, nextval('work_fence'), 1)
returning tenant_id, kind, id, fence, attempt
"""
_UNSCHEDULE = "delete from work where tenant_id = $1 and kind = $2 and id = $3"
# $5: whether the claimer may take over leases that ran out.
_CLAIM = """
with free as (
    select c.tenant_id, c.kind, c.id
    from unnest($1::text[], $2::int[]) as wanted (kind, n)
    cross join lateral (
        select w.tenant_id, w.kind, w.id from work w
        where w.kind = wanted.kind and w.due_at <= now()
            and (w.owner is null or ($5 and w.lease_until < now()))
        order by w.due_at limit wanted.n for update skip locked) c)
update work w
set owner = $3, lease_until = now() + $4::interval, fence = nextval('work_fence'),
    attempt = w.attempt + 1
from free where (w.tenant_id, w.kind, w.id) = (free.tenant_id, free.kind, free.id)
returning w.tenant_id, w.kind, w.id, w.fence, w.attempt
"""
_NEXT_DUE = """
select extract(epoch from min(due_at) - now())::float8 from work
where kind = any($1) and owner is null
"""
# Late is not lost: as long as nobody took the row over, its holder keeps it. Rows that are locked
# are skipped: a transaction of their own holder is under way, and a claimer skips them as well.
_RENEW = """
with mine as (
    select tenant_id, kind, id from work
    where owner = $1 and fence = any($2) for update skip locked)
update work w set lease_until = now() + $3::interval
from mine where (w.tenant_id, w.kind, w.id) = (mine.tenant_id, mine.kind, mine.id)
"""
_HELD = "select fence from work where owner = $1 and fence = any($2)"
_RELEASE = """
update work set owner = null, lease_until = null, again_at = null, due_at = now(),
    attempt = greatest(attempt - 1, 0)
where owner = $1 and ($2::bigint[] is null or fence = any($2))
"""
_RETRY = """
update work set owner = null, lease_until = null, again_at = null, last_error = $4,
    due_at = least(
        again_at, case when $5::timestamptz > now() then $5 end, now() + $3::interval)
where owner = $1 and fence = $2
"""
_LOCK = """
update work set lease_until = now() + $6::interval
where tenant_id = $1 and kind = $2 and id = $3 and owner = $4 and fence = $5
"""
_AGAIN = """
update work set owner = null, lease_until = null, attempt = 0, last_error = '', again_at = null,
    due_at = least(again_at, coalesce($6::timestamptz, now() + $7::interval))
where tenant_id = $1 and kind = $2 and id = $3 and owner = $4 and fence = $5
"""
_DONE = """
with gone as (
    delete from work
    where tenant_id = $1 and kind = $2 and id = $3 and owner = $4 and fence = $5
        and again_at is null
    returning 1),
kept as (
    update work set owner = null, lease_until = null, attempt = 0, last_error = '',
        due_at = again_at, again_at = null
    where tenant_id = $1 and kind = $2 and id = $3 and owner = $4 and fence = $5
        and again_at is not null
    returning 1)
select (select count(*) from gone) + 2 * (select count(*) from kept)
"""
_HEARTBEAT = """
insert into replica (id, seen_at) values ($1, now())
on conflict (id) do update set seen_at = now()
"""
_FORGET = "delete from replica where id = $1 or seen_at < now() - $2::interval"

# When work is due: at a time, or so long from now on by the database's clock, which is the one
# that all replicas share. None: now.
Due = datetime | timedelta | None


async def schedule(tx: Statements, tenant: str, kind: str, work_id: str, due: Due) -> None:
    """Make work due."""
    await tx.run(_SCHEDULE, tenant, kind, work_id, *_when(due))


def _when(due: Due) -> tuple[datetime | None, timedelta]:
    if isinstance(due, timedelta):
        return None, due
    return due, timedelta()


async def take(tx: Statements, key: tuple[str, str, str], owner: str, lease: timedelta) -> Row:
    """Make new work (tenant, kind, id) that its maker holds from the start."""
    row = await tx.fetch_one(_TAKE, *key, owner, lease)
    assert row is not None  # noqa: S101 (an insert without conditions)
    return row


async def unschedule(tx: Statements, tenant: str, kind: str, work_id: str) -> None:
    """Delete work; a holder loses its lease."""
    await tx.run(_UNSCHEDULE, tenant, kind, work_id)


async def claim(
    tx: Statements, owner: str, free: Mapping[str, int], lease: timedelta, *, take_over: bool
) -> list[Row]:
    """Take what is due, at most so many of each kind; skip what others are about to take."""
    return await tx.fetch(_CLAIM, list(free), list(free.values()), owner, lease, take_over)


async def seconds_to_next(tx: Statements, kinds: Sequence[str]) -> float | None:
    """Return how long until free work of these kinds is due (negative: overdue)."""
    seconds: float | None = await tx.fetch_value(_NEXT_DUE, list(kinds))
    return seconds


async def renew(tx: Statements, owner: str, fences: Sequence[int], lease: timedelta) -> set[int]:
    """Lengthen leases, late ones as well; return the fences that still hold."""
    await tx.run(_RENEW, owner, list(fences), lease)
    return {row["fence"] for row in await tx.fetch(_HELD, owner, list(fences))}


async def release(tx: Statements, owner: str, fences: Sequence[int] | None) -> None:
    """Give work back at once (None: all of it), as if it had not been tried."""
    await tx.run(_RELEASE, owner, fences and list(fences))


async def retry(  # noqa: PLR0917 - whose work, when again, and why
    tx: Statements,
    owner: str,
    fence: int,
    delay: timedelta,
    error: str,
    latest: datetime | None = None,
) -> None:
    """Give failed work back, due after a delay, at the latest at a time that is to come."""
    await tx.run(_RETRY, owner, fence, delay, error, latest)


Key = tuple[str, str, str, str, int]  # tenant, kind, id, owner, fence


async def lock(tx: Statements, key: Key, lease: timedelta) -> bool:
    """Lock the row until the end of the transaction and lengthen its lease; False: lost."""
    return await tx.run(_LOCK, *key, lease) == 1


async def again(tx: Statements, key: Key, due: Due) -> bool:
    """Make held work due once more, with its attempts counted anew; False: lost."""
    return await tx.run(_AGAIN, *key, *_when(due)) == 1


class Done(IntEnum):
    """What became of work that was ended."""

    LOST = 0
    GONE = 1
    DUE_AGAIN = 2


async def done(tx: Statements, key: Key) -> Done:
    """End held work, unless it was scheduled again meanwhile."""
    return Done(await tx.fetch_value(_DONE, *key))


async def heartbeat(tx: Statements, replica: str) -> None:
    """Tell that this replica lives."""
    await tx.run(_HEARTBEAT, replica)


async def forget(tx: Statements, replica: str, older: timedelta) -> None:
    """Take this replica off the list, and those not seen for long."""
    await tx.run(_FORGET, replica, older)
