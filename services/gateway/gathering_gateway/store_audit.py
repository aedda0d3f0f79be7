"""The audit: entries from the consumers of all logs, dropped when they are old."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

from gathering_gateway.models_audit import AuditEntry, AuditFilter
from gathering_mesh.call import Call
from gathering_mesh.postgres import Database, Transaction
from gathering_mesh.statements import Row

# Columns in the order of the table's, which is that of the entry's fields.
_ENTER = """
insert into audit_entry
select $1, * from unnest(
    $2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
    $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[])
on conflict (tenant_id, event_id) do nothing
"""
_FIELDS = attrgetter(*(one.name for one in fields(AuditEntry)))
# Not with each entry: prepared on a small table it is planned with a look at all of a tenant's.
_TRIM = """
delete from audit_entry where (tenant_id, event_id) in (
    select tenant_id, event_id from audit_entry
    where tenant_id = $1 and at < now() - $2::interval order by at limit 5000)
"""
_BETWEEN_TRIMS = 10.0  # seconds, per tenant; so the table shrinks faster than it grows
_TENANTS = 10_000  # whose last trim is remembered
_PAGE = """
select * from audit_entry
where tenant_id = $1 and ($2 = '' or user_id = $2) and ($3 = '' or resource_id = $3)
and (cardinality($4::text[]) = 0 or action = any($4))
and ($5::timestamptz is null or at >= $5) and ($6::timestamptz is null or at < $6)
and ($7::timestamptz is null or (at, event_id) < ($7, $8))
order by at desc, event_id desc limit $9
"""


@dataclass(frozen=True, slots=True)
class AuditStore:
    """Entries."""

    db: Database
    retention: timedelta
    _trimmed: dict[str, float] = field(default_factory=dict)  # tenant to time.monotonic()

    async def enter(self, tx: Transaction, entries: Iterable[AuditEntry]) -> None:
        """Enter what was done, each once; the transaction is that of the events' consumer.

        Now and then what is older than the retention goes with it.
        """
        await tx.run(_ENTER, tx.tenant, *zip(*map(_FIELDS, entries), strict=True))
        now = time.monotonic()
        if now - self._trimmed.get(tx.tenant, -_BETWEEN_TRIMS) >= _BETWEEN_TRIMS:
            if len(self._trimmed) >= _TENANTS:
                self._trimmed.clear()
            self._trimmed[tx.tenant] = now
            await tx.run(_TRIM, tx.tenant, self.retention)

    async def page(
        self, call: Call, only: AuditFilter, last: tuple[datetime, str] | None, limit: int
    ) -> Sequence[AuditEntry]:
        """Return entries, newest first, those after the last one."""
        async with self.db.transaction(call) as tx:
            rows = await tx.fetch(
                _PAGE, tx.tenant, only.user_id, only.resource_id, list(only.actions),
                only.after, only.before, *(last or (None, "")), limit,
            )  # fmt: skip
        return [_entry(row) for row in rows]


def _entry(row: Row) -> AuditEntry:
    named: dict[str, Any] = {k: v for k, v in row.items() if k not in {"tenant_id", "at"}}
    return AuditEntry(time=row["at"], **named)
