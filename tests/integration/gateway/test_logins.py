"""Who comes in, by the service's own port: passwords, refresh tokens, API keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gathering.gateway.v1 import auth_pb2
from gathering.gateway.v1 import auth_service_pb2 as pb
from gathering_mesh.client import peer
from gathering_mesh.errors import DomainError
from tests.support.fixtures import NewDatabase
from tests.support.gateway import Gateway, bearer, running_gateway


@pytest.fixture
async def gateway(new_database: NewDatabase, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running_gateway(await new_database("gateway"), tmp_path) as running:
        yield running


async def reason(call: object) -> str:
    """Return the reason of a refused call."""
    try:
        with peer("gateway"):
            await call  # type: ignore[misc]  # a call of an untyped stub
    except DomainError as error:
        return error.reason
    return "OK"


async def test_login_gives_tokens_that_work(gateway: Gateway) -> None:
    email = await gateway.tenant("Ada@Example.org")
    tokens = await gateway.log_in(" ADA@example.ORG ")
    assert tokens.user.email == "ada@example.org" == email.lower()
    assert tokens.user.role == auth_pb2.ROLE_ADMIN
    me = await gateway.auth.GetMe(pb.GetMeRequest(), metadata=bearer(tokens), timeout=20)
    assert me == tokens.user
