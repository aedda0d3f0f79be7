"""Give back a permission to act for a user that came to no use."""

from __future__ import annotations

from contextlib import suppress

from gathering_mesh.call import Call
from gathering_mesh.errors import DomainError
from gathering_orchestrator.ports import Permits


async def give_back(permits: Permits, call: Call, delegation_id: str) -> None:
    """Revoke a delegation that nothing names; where that fails it stays, and does no harm."""
    with suppress(DomainError):
        await permits.revoke(call, delegation_id)
