"""Tell administrators who did what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import datetime

from gathering_gateway.models_audit import AuditEntry, AuditFilter
from gathering_gateway.ports import AuditRows
from gathering_mesh.call import Call
from gathering_mesh.paging import decode_token, encode_token, page_size, query_fingerprint


@dataclass(frozen=True, slots=True)
class Audit:
    """The entries of a tenant."""

    rows: AuditRows

    async def page(
        self, call: Call, only: AuditFilter, size: int, token: str
    ) -> tuple[Sequence[AuditEntry], str]:
        """Return a page of entries, newest first, and the token of the next."""
        limit = page_size(size)
        query = query_fingerprint("audit", call.tenant, *map(str, astuple(only)))
        key = decode_token(query, token, kinds=(str, str))
        last = (datetime.fromisoformat(str(key[0])), str(key[1])) if key else None
        found = await self.rows.page(call, only, last, limit + 1)
        if len(found) <= limit:
            return found, ""
        end = found[limit - 1]
        return found[:limit], encode_token(query, [end.time.isoformat(), end.event_id])
