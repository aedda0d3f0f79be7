"""Permissions to act for a user, granted for a thing that is then stored with them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

from gathering_mesh.call import Call
from gathering_mesh.errors import DomainError
from gathering_orchestrator.errors import passes
from gathering_orchestrator.ports import Permits


async def store_permitted(
    permits: Permits, call: Call, thing_id: str, store: Callable[[str], Awaitable[str]]
) -> str:
    """Get a permission, store the thing with it, return the id of what is stored now.

    The permission comes first: what exists can be worked on. It is given back when it is certain
    that nothing names it. After a lost connection or a cancelled call that is not: the thing may be
    stored, and without its permission it would fail. One that nothing names ends when nobody used
    it for long enough.
    """
    delegation_id = await permits.grant(call, thing_id)
    try:
        stored = await store(delegation_id)
    except DomainError as error:
        if not passes(error):
            await _give_back(permits, call, delegation_id)
        raise
    if stored != thing_id:  # a repetition
        await _give_back(permits, call, delegation_id)
    return stored


async def _give_back(permits: Permits, call: Call, delegation_id: str) -> None:
    """Revoke a delegation that nothing names; where that fails it stays, and does no harm."""
    with suppress(DomainError):
        await permits.revoke(call, delegation_id)
