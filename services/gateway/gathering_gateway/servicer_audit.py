"""Serves `AuditService`."""

from __future__ import annotations

from dataclasses import dataclass

from gathering.gateway.v1 import audit_service_pb2 as pb
from gathering_gateway import convert_audit
from gathering_gateway.audit import Audit
from gathering_mesh.call import Call


@dataclass(frozen=True, slots=True)
class AuditServicer:
    """Converts, calls a verb, converts."""

    audit: Audit

    async def ListAuditEntries(
        self, request: pb.ListAuditEntriesRequest, call: Call
    ) -> pb.ListAuditEntriesResponse:
        """List entries."""
        found, following = await self.audit.page(
            call, convert_audit.filter_of(request), request.page_size, request.page_token
        )
        return pb.ListAuditEntriesResponse(
            entries=map(convert_audit.message, found), next_page_token=following
        )
