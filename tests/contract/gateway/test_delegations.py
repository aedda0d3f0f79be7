"""Services that act for users after the users' tokens have ended."""

from __future__ import annotations

from typing import Any

import jwt

from gathering.gateway.v1 import auth_pb2
from gathering.gateway.v1 import auth_service_pb2 as pb
from tests.support.gateway import Gateway, bearer, outcome


def exchange(gateway: Gateway, made: auth_pb2.Delegation, tenant: str, actor: str) -> Any:
    request = pb.ExchangeDelegationRequest(tenant_id=tenant, delegation_id=made.delegation_id)
    return gateway.auth.ExchangeDelegation(request, metadata=bearer("", gateway.actor(actor)))


async def delegate(
    gateway: Gateway, tokens: pb.Tokens | str, actor: str = "agent", request_id: str = ""
) -> auth_pb2.Delegation:
    request = pb.CreateDelegationRequest(purpose_id="ses_1", request_id=request_id)
    made: auth_pb2.Delegation = await gateway.auth.CreateDelegation(
        request, metadata=bearer(tokens, gateway.actor(actor))
    )
    return made


def revoke(gateway: Gateway, tokens: pb.Tokens, made: auth_pb2.Delegation) -> Any:
    request = pb.RevokeDelegationRequest(delegation_id=made.delegation_id)
    return gateway.auth.RevokeDelegation(request, metadata=bearer(tokens))


async def test_delegation_gives_its_service_a_token_of_the_user(gateway: Gateway) -> None:
    tokens = await gateway.admin()
    made = await delegate(gateway, tokens)
    assert (made.actor, made.purpose_id, made.user_id) == ("agent", "ses_1", tokens.user.user_id)
    given = await exchange(gateway, made, tokens.user.tenant_id, "agent")
    claims = jwt.decode(given.access_token, options={"verify_signature": False})
    assert claims["dlg"] == made.delegation_id
    assert (claims["sub"], claims["tenant"]) == (tokens.user.user_id, tokens.user.tenant_id)
    me = await gateway.auth.GetMe(pb.GetMeRequest(), metadata=bearer(given.access_token))
    assert me == tokens.user


async def test_delegation_is_for_its_service_and_tenant_only(gateway: Gateway) -> None:
    tokens, other = await gateway.admin(), await gateway.admin()
    made = await delegate(gateway, tokens)
    tenant = tokens.user.tenant_id
    assert await outcome(exchange(gateway, made, tenant, "orchestrator")) == "ACTOR_REFUSED"
    assert await outcome(exchange(gateway, made, tenant, "skills")) == "ACTOR_REFUSED"
    assert await outcome(exchange(gateway, made, other.user.tenant_id, "agent")) == "NOT_FOUND"
    assert await outcome(revoke(gateway, other, made)) == "NOT_FOUND"


async def test_skills_can_make_no_delegation(gateway: Gateway) -> None:
    tokens = await gateway.admin()
    assert await outcome(delegate(gateway, tokens, "skills")) == "ACTOR_REFUSED"


async def test_revoked_delegation_gives_nothing(gateway: Gateway) -> None:
    tokens = await gateway.admin()
    made = await delegate(gateway, tokens)
    first = await revoke(gateway, tokens, made)
    assert (await revoke(gateway, tokens, made)).revoke_time == first.revoke_time
    reason = await outcome(exchange(gateway, made, tokens.user.tenant_id, "agent"))
    assert reason == "CREDENTIALS_REVOKED"


async def test_delegation_under_another_ends_with_it(gateway: Gateway) -> None:
    tokens = await gateway.admin()
    tenant = tokens.user.tenant_id
    task = await delegate(gateway, tokens, "orchestrator")
    by_task = await exchange(gateway, task, tenant, "orchestrator")
    session = await delegate(gateway, by_task.access_token, "agent")
    assert await outcome(exchange(gateway, session, tenant, "agent")) == "OK"
    await revoke(gateway, tokens, task)
    assert await outcome(exchange(gateway, session, tenant, "agent")) == "CREDENTIALS_REVOKED"


async def test_request_id_makes_one_delegation_for_each_service(gateway: Gateway) -> None:
    tokens = await gateway.admin()
    made = [await delegate(gateway, tokens, "agent", "r") for _ in range(2)]
    other = await delegate(gateway, tokens, "orchestrator", "r")
    assert made[0] == made[1]
    assert made[0].delegation_id != other.delegation_id


async def test_who_acts_for_a_user_makes_no_lasting_credentials(gateway: Gateway) -> None:
    tokens = await gateway.admin()
    made = await delegate(gateway, tokens)
    given = await exchange(gateway, made, tokens.user.tenant_id, "agent")
    user = pb.CreateUserRequest(email="x@y.org", password="x" * 12, role=auth_pb2.ROLE_ADMIN)
    for metadata in (
        bearer(given.access_token),
        bearer(given.access_token, gateway.actor("agent")),
        bearer(tokens, gateway.actor("agent")),
    ):
        key = gateway.auth.CreateApiKey(pb.CreateApiKeyRequest(display_name="x"), metadata=metadata)
        assert await outcome(key) == "ACTOR_REFUSED"
        assert await outcome(gateway.auth.CreateUser(user, metadata=metadata)) == "ACTOR_REFUSED"
