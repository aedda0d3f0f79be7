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
_NEW_EPOCH = """
update log_head
set epoch = replace(gen_random_uuid()::text, '-', ''), epoch_start = position
returning epoch
"""
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
    frames = [_frame(row, epoch) for row in rows if row["position"] is not None]
    return Page(epoch, rows[0]["epoch_start"], rows[0]["head"], frames)


def _frame(row: Row, epoch: str) -> TailResponse:
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


async def begin_epoch(tx: Statements) -> str:
    """Give the log a new history, after its database was restored and before services start.

    Readers that were ahead of the restored log are told of a gap, then get what is new.
    """
    return str(await tx.fetch_value(_NEW_EPOCH))
