"""What comes of an API key ends with it: it makes nothing that lasts longer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import jwt
import pytest

from gathering.gateway.v1 import auth_pb2
from gathering.gateway.v1 import auth_service_pb2 as pb
from tests.support.fixtures import NewDatabase
from tests.support.gateway import PASSWORD, Gateway, bearer, outcome, running_gateway
from tests.support.postgres import TestDatabase


@dataclass(frozen=True)
class Keyed:
    """A gateway, its database, an administrator, a key of theirs and a token made from it."""

    gateway: Gateway
    database: TestDatabase
    admin: pb.Tokens
    key: auth_pb2.ApiKey
    by_key: pb.Tokens

    async def delegate(self, token: pb.Tokens | str, actor: str = "agent") -> auth_pb2.Delegation:
        made: auth_pb2.Delegation = await self.gateway.auth.CreateDelegation(
            pb.CreateDelegationRequest(purpose_id="ses_1"),
            metadata=bearer(token, self.gateway.actor(actor)),
        )
        return made

    async def exchange(
        self, made: auth_pb2.Delegation, actor: str = "agent"
    ) -> pb.ExchangeDelegationResponse:
        given: pb.ExchangeDelegationResponse = await self.gateway.auth.ExchangeDelegation(
            pb.ExchangeDelegationRequest(
                tenant_id=self.admin.user.tenant_id, delegation_id=made.delegation_id
            ),
            metadata=bearer("", self.gateway.actor(actor)),
        )
        return given

    async def revoke(self) -> None:
        request = pb.RevokeApiKeyRequest(api_key_id=self.key.api_key_id)
        await self.gateway.auth.RevokeApiKey(request, metadata=bearer(self.admin))

    async def expire(self) -> None:
        """Let the key's time be over; the shortest that can be asked for is a minute."""
        async with self.database.server.admin(self.database.name) as admin:
            await admin.execute("update gateway.api_key set expires_at = now()")


@pytest.fixture
async def keyed(new_database: NewDatabase, tmp_path: Path) -> AsyncIterator[Keyed]:
    database = await new_database("gateway")
    async with running_gateway(database, tmp_path) as gateway:
        admin = await gateway.admin()
        request = pb.CreateApiKeyRequest(display_name="short")
        request.time_to_live.FromSeconds(60)
        made = await gateway.auth.CreateApiKey(request, metadata=bearer(admin))
        exchange = pb.ExchangeApiKeyRequest(api_key=made.secret)
        by_key = await gateway.auth.ExchangeApiKey(exchange)
        yield Keyed(gateway, database, admin, made.api_key, by_key)


async def test_token_of_a_key_makes_no_key_and_no_user(keyed: Keyed) -> None:
    auth, metadata = keyed.gateway.auth, bearer(keyed.by_key)
    key = pb.CreateApiKeyRequest(display_name="lasting")
    user = pb.CreateUserRequest(email="x@y.org", password=PASSWORD, role=auth_pb2.ROLE_ADMIN)
    assert await outcome(auth.CreateApiKey(key, metadata=metadata)) == "NOT_ALLOWED"
    assert await outcome(auth.CreateUser(user, metadata=metadata)) == "NOT_ALLOWED"
    assert await outcome(auth.CreateApiKey(key, metadata=bearer(keyed.admin))) == "OK"
    assert await outcome(auth.CreateUser(user, metadata=bearer(keyed.admin))) == "OK"
    assert await outcome(auth.GetMe(pb.GetMeRequest(), metadata=metadata)) == "OK"


async def test_token_of_a_delegation_under_a_key_makes_no_key(keyed: Keyed) -> None:
    given = await keyed.exchange(await keyed.delegate(keyed.by_key))
    request = pb.CreateApiKeyRequest(display_name="lasting")
    call = keyed.gateway.auth.CreateApiKey(request, metadata=bearer(given.access_token))
    assert await outcome(call) == "ACTOR_REFUSED"


async def test_delegations_end_with_the_key_that_stood_behind_them(keyed: Keyed) -> None:
    task = await keyed.delegate(keyed.by_key, "orchestrator")
    by_task = await keyed.exchange(task, "orchestrator")
    session = await keyed.delegate(by_task.access_token)
    other = await keyed.delegate(keyed.admin)
    assert await outcome(keyed.exchange(session)) == "OK"
    await keyed.revoke()
    assert await outcome(keyed.exchange(task, "orchestrator")) == "CREDENTIALS_REVOKED"
    assert await outcome(keyed.exchange(session)) == "CREDENTIALS_REVOKED"
    assert await outcome(keyed.exchange(other)) == "OK"


async def test_delegations_end_when_the_key_expires(keyed: Keyed) -> None:
    session = await keyed.delegate(keyed.by_key)
    other = await keyed.delegate(keyed.admin)
    await keyed.expire()
    assert await outcome(keyed.exchange(session)) == "CREDENTIALS_REVOKED"
    assert await outcome(keyed.exchange(other)) == "OK"


async def test_token_of_a_delegation_does_not_outlive_the_key(keyed: Keyed) -> None:
    task = await keyed.delegate(keyed.by_key, "orchestrator")
    by_task = await keyed.exchange(task, "orchestrator")
    given = await keyed.exchange(await keyed.delegate(by_task.access_token))
    claims = jwt.decode(given.access_token, options={"verify_signature": False})
    assert claims["exp"] <= keyed.key.expire_time.seconds
    assert given.expire_time.seconds == claims["exp"]


async def test_delegation_under_a_key_that_has_ended_gives_nothing(keyed: Keyed) -> None:
    await keyed.revoke()
    made = await keyed.delegate(keyed.by_key)
    assert await outcome(keyed.exchange(made)) == "CREDENTIALS_REVOKED"
