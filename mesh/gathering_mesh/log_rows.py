"""The statements on the log: pages from a position on, retention, the change of epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from gathering.events.v1.event_log_service_pb2 import TailResponse
from gathering_mesh.statements import Row, Statements

# Head and entries in one snapshot; one row with nulls when there are no entries.
_PAGE = """
select h.epoch, h.epoch_start, h.position as head,
    l.position, l.tenant_id, l.version, l.event, l.written_at
from log_head h left join lateral (
    select * from log where log.position > $1 order by log.position limit $2) l on true
order by l.position
"""
# The oldest go first, a batch at a time; positions rise with the time of logging.
_TRIM = """
delete from log where position < least(
    coalesce(
        (select position from log where logged_at >= now() - $1::interval
         order by position limit 1),
        (select position + 1 from log_head)),
    (select position + $2 from log order by position limit 1))
"""
# Which database this is: another after a restore from a dump (cluster, database or table) or from
# a base backup, and after a failover (timeline). Every history ends with it. The number of the
# cluster is read from its control file once for each connection: no other cluster takes that over.
_ORIGIN = """
left(md5(concat_ws('/',
    coalesce(
        nullif(current_setting('gathering.cluster', true), ''),
        set_config('gathering.cluster',
            (select system_identifier from pg_control_system())::text, false)),
    left(pg_walfile_name(pg_current_wal_lsn()), 8),
    (select oid from pg_database where datname = current_database()), 'log_head'::regclass::oid)),
    12)
"""
BEGIN_EPOCH = f"""
update log_head
set epoch = replace(gen_random_uuid()::text, '-', '') || '-' || {_ORIGIN}, epoch_start = position
returning epoch
"""  # noqa: S608 (of constants)
_LOCK = f"""
select position, epoch, epoch like '%-' || {_ORIGIN} as ours from log_head for update
"""  # noqa: S608 (of constants)
_TRIM_BATCH = 10_000


class Position(NamedTuple):
    """A place in a service's log: its history and the entry; (`""`, 0) is before all of it."""

    epoch: str
    position: int


@dataclass(frozen=True, slots=True)
class Page:
    """Entries in order, as frames to send, and the head of the log when they were read.

    `epoch_start` is the last position that the log shares with the epoch before.
    """

    epoch: str
    epoch_start: int
    head: int
    frames: Sequence[TailResponse]


async def read_page(tx: Statements, after: int, limit: int) -> Page:
    """Read entries after a position."""
    rows = await tx.fetch(_PAGE, after, limit)
    epoch = rows[0]["epoch"]
    frames = [frame_of(row, epoch) for row in rows if row["position"] is not None]
    return Page(epoch, rows[0]["epoch_start"], rows[0]["head"], frames)


def frame_of(row: Row, epoch: str) -> TailResponse:
    """Return an entry of the log as it is sent."""
    frame = TailResponse()
    entry = frame.entry
    entry.tenant_id = row["tenant_id"]
    event = entry.event
    event.ParseFromString(row["event"])
    event.epoch, event.position, event.version = epoch, row["position"], row["version"]
    event.commit_time.FromDatetime(row["written_at"])
    return frame


async def trim(tx: Statements, keep: timedelta) -> bool:
    """Delete a batch of what is older; tell whether there may be more."""
    return await tx.run(_TRIM, keep, _TRIM_BATCH) >= _TRIM_BATCH


async def lock_head(tx: Statements) -> Position:
    """Lock the head and return its place; in a restored database a new history begins with it.

    Whoever gives positions does so under this lock: none is given twice in one history, also when
    a database goes back to an earlier state, under running services or while they were stopped.
    """
    row = await tx.fetch_one(_LOCK)
    assert row is not None  # noqa: S101 (a migration wrote it)
    epoch = row["epoch"] if row["ours"] else await begin_epoch(tx)
    return Position(epoch, row["position"])


async def begin_epoch(tx: Statements) -> str:
    """Give the log a new history, where an earlier state came back and nothing shows it.

    So it is with a snapshot of the disk (`python -m gathering_mesh.admin new-history`). Readers
    that were ahead of the restored log are told of a gap, then get what is new.
    """
    return str(await tx.fetch_value(BEGIN_EPOCH))
