"""A permission that was granted for a thing goes only when it is certain that nothing names it."""

from __future__ import annotations

import asyncio

import pytest

from gathering_mesh.call import Call, Principal
from gathering_mesh.errors import Unavailable
from gathering_orchestrator.errors import CircleNotFound
from gathering_orchestrator.permission import store_permitted

CALL = Call(Principal.anonymous(), "test")


class Permits:
    """Grants one permission and knows whether it was taken back."""

    def __init__(self) -> None:
        self.revoked: list[str] = []

    async def grant(self, _call: Call, purpose_id: str) -> str:
        """Grant it."""
        return f"dlg of {purpose_id}"

    async def call(self, tenant: str, delegation_id: str, trace: str = "") -> Call:
        """Nobody acts here."""
        raise NotImplementedError(tenant, delegation_id, trace)

    async def revoke(self, _call: Call, delegation_id: str) -> None:
        """Take it back."""
        self.revoked.append(delegation_id)


async def test_permission_of_a_stored_thing_stays() -> None:
    permits = Permits()

    async def store(delegation_id: str) -> str:
        assert delegation_id == "dlg of tsk_1"
        return "tsk_1"

    assert await store_permitted(permits, CALL, "tsk_1", store) == "tsk_1"
    assert permits.revoked == []


async def test_permission_of_a_repetition_goes() -> None:
    permits = Permits()

    async def store(_delegation_id: str) -> str:
        return "tsk_0"

    assert await store_permitted(permits, CALL, "tsk_1", store) == "tsk_0"
    assert permits.revoked == ["dlg of tsk_1"]


async def test_permission_of_a_refused_thing_goes() -> None:
    permits = Permits()

    async def store(_delegation_id: str) -> str:
        raise CircleNotFound("crc_1")

    with pytest.raises(CircleNotFound):
        await store_permitted(permits, CALL, "tsk_1", store)
    assert permits.revoked == ["dlg of tsk_1"]


@pytest.mark.parametrize("error", [Unavailable("lost in the commit"), asyncio.CancelledError()])
async def test_permission_stays_when_nobody_knows_whether_the_thing_was_stored(
    error: BaseException,
) -> None:
    permits = Permits()

    async def store(_delegation_id: str) -> str:
        raise error

    with pytest.raises(type(error)):
        await store_permitted(permits, CALL, "tsk_1", store)
    assert permits.revoked == []
