"""Roles, disabled users, passwords and logins, through the gateway's port."""

from __future__ import annotations

import asyncio
from typing import Any

import jwt
import pytest

from gathering.gateway.v1 import auth_pb2
from gathering.gateway.v1 import auth_service_pb2 as auth
from gathering.gateway.v1 import user_service_pb2 as pb
from tests.contract.gateway.test_delegations import delegate, exchange
from tests.support.gateway import PASSWORD, Gateway, bearer, outcome

MEMBER, ADMIN = auth_pb2.ROLE_MEMBER, auth_pb2.ROLE_ADMIN
NEW = "another password of tests"
NOBODY = "usr_" + "0" * 32


async def add(gateway: Gateway, admin: auth.Tokens, name: str, role: Any = MEMBER) -> auth.Tokens:
    """Create a user in the administrator's tenant and log in."""
    email = f"{name}@example.org"
    new = auth.CreateUserRequest(email=email, password=PASSWORD, role=role)
    await gateway.auth.CreateUser(new, metadata=bearer(admin))
    return await gateway.log_in(email)


def change_role(
    gateway: Gateway, admin: auth.Tokens, user_id: str, role: Any, key: str = ""
) -> Any:
    request = pb.ChangeUserRoleRequest(user_id=user_id, role=role, request_id=key)
    return gateway.users.ChangeUserRole(request, metadata=bearer(admin))


def disable(gateway: Gateway, admin: auth.Tokens, user_id: str) -> Any:
    return gateway.users.DisableUser(pb.DisableUserRequest(user_id=user_id), metadata=bearer(admin))


def refresh(gateway: Gateway, tokens: auth.Tokens) -> Any:
    return gateway.auth.Refresh(auth.RefreshRequest(refresh_token=tokens.refresh_token))


def role_of(tokens: auth.Tokens) -> str:
    claims = jwt.decode(tokens.access_token, options={"verify_signature": False})
    return str(claims["role"])


async def test_changed_role_is_in_the_next_token(gateway: Gateway) -> None:
    admin = await gateway.admin()
    user = await add(gateway, admin, "ada")
    changed = await change_role(gateway, admin, user.user.user_id, ADMIN)
    assert changed.role == ADMIN
    renewed = await refresh(gateway, user)
    assert (role_of(user), role_of(renewed)) == ("member", "admin")
    found = await gateway.users.GetUser(
        pb.GetUserRequest(user_id=user.user.user_id), metadata=bearer(renewed)
    )
    assert found == changed


async def test_repeated_change_of_role_is_one(gateway: Gateway) -> None:
    admin = await gateway.admin()
    user = (await add(gateway, admin, "ada")).user.user_id
    first = await change_role(gateway, admin, user, ADMIN, "r")
    assert await change_role(gateway, admin, user, ADMIN, "r") == first
    again = change_role(gateway, admin, user, MEMBER, "r")
    assert await outcome(again) == "REQUEST_ID_REUSED"


async def test_last_administrator_stays(gateway: Gateway) -> None:
    admin = await gateway.admin()
    me = admin.user.user_id
    assert await outcome(change_role(gateway, admin, me, MEMBER)) == "WRONG_STATE"
    assert await outcome(disable(gateway, admin, me)) == "WRONG_STATE"
    second = await add(gateway, admin, "ada", ADMIN)
    await disable(gateway, admin, second.user.user_id)
    assert await outcome(disable(gateway, admin, me)) == "WRONG_STATE"


async def test_administrators_who_demote_each_other_leave_one(gateway: Gateway) -> None:
    admin = await gateway.admin()
    second = await add(gateway, admin, "ada", ADMIN)
    found = await asyncio.gather(
        outcome(change_role(gateway, admin, second.user.user_id, MEMBER)),
        outcome(change_role(gateway, second, admin.user.user_id, MEMBER)),
    )
    assert sorted(found) == ["OK", "WRONG_STATE"]


async def test_disabled_user_gets_no_token_by_any_way(gateway: Gateway) -> None:
    admin = await gateway.admin()
    user = await add(gateway, admin, "ada")
    tenant, user_id = user.user.tenant_id, user.user.user_id
    key = await gateway.auth.CreateApiKey(
        auth.CreateApiKeyRequest(display_name="k"), metadata=bearer(user)
    )
    made = await delegate(gateway, user)

    def by_key() -> Any:
        return gateway.auth.ExchangeApiKey(auth.ExchangeApiKeyRequest(api_key=key.secret))

    assert (await disable(gateway, admin, user_id)).HasField("disable_time")
    ways = (
        gateway.log_in("ada@example.org"),
        refresh(gateway, user),
        by_key(),
        exchange(gateway, made, tenant, "agent"),
    )
    assert [await outcome(way) for way in ways] == ["CREDENTIALS_REVOKED"] * 4
    wrong = gateway.log_in("ada@example.org", "not the password")
    assert await outcome(wrong) == "CREDENTIALS_INVALID"

    await gateway.users.EnableUser(pb.EnableUserRequest(user_id=user_id), metadata=bearer(admin))
    assert await outcome(by_key()) == "OK"
    assert await outcome(exchange(gateway, made, tenant, "agent")) == "OK"
    assert await outcome(gateway.log_in("ada@example.org")) == "OK"
    assert await outcome(refresh(gateway, user)) == "CREDENTIALS_REVOKED"


async def test_changed_password_ends_the_logins(gateway: Gateway) -> None:
    admin = await gateway.admin()
    user, other = await add(gateway, admin, "ada"), await gateway.log_in("ada@example.org")

    def change(old: str, tokens: auth.Tokens) -> Any:
        request = pb.ChangePasswordRequest(old_password=old, new_password=NEW)
        return gateway.users.ChangePassword(request, metadata=bearer(tokens))

    assert await outcome(change("not the password", user)) == "CREDENTIALS_INVALID"
    assert await outcome(change(PASSWORD, user)) == "OK"
    for tokens in (user, other):
        assert await outcome(refresh(gateway, tokens)) == "CREDENTIALS_REVOKED"
    assert await outcome(gateway.log_in("ada@example.org")) == "CREDENTIALS_INVALID"
    assert await outcome(gateway.log_in("ada@example.org", NEW)) == "OK"


async def test_logins_are_listed_and_ended_together(gateway: Gateway) -> None:
    admin = await gateway.admin()
    first = await add(gateway, admin, "ada")
    second = await gateway.log_in("ada@example.org")
    asked = pb.ListLoginsRequest(page_size=1)
    page = await gateway.users.ListLogins(asked, metadata=bearer(second))
    asked.page_token = page.next_page_token
    rest = await gateway.users.ListLogins(asked, metadata=bearer(second))
    assert len({login.login_id for login in (*page.logins, *rest.logins)}) == 2
    assert not rest.next_page_token

    await gateway.users.RevokeLogins(pb.RevokeLoginsRequest(), metadata=bearer(first))
    assert await outcome(refresh(gateway, second)) == "CREDENTIALS_REVOKED"
    left = await gateway.users.ListLogins(pb.ListLoginsRequest(), metadata=bearer(first))
    assert not left.logins


async def test_logins_of_others_are_ended_by_administrators_only(gateway: Gateway) -> None:
    admin, stranger = await gateway.admin(), await gateway.admin()
    user = await add(gateway, admin, "ada")

    def end(whose: auth.Tokens, by: auth.Tokens) -> Any:
        request = pb.RevokeLoginsRequest(user_id=whose.user.user_id)
        return gateway.users.RevokeLogins(request, metadata=bearer(by))

    assert await outcome(end(admin, user)) == "NOT_ALLOWED"
    assert await outcome(end(user, stranger)) == "NOT_FOUND"
    assert await outcome(end(user, admin)) == "OK"
    assert await outcome(refresh(gateway, user)) == "CREDENTIALS_REVOKED"
    assert await outcome(refresh(gateway, admin)) == "OK"


@pytest.mark.parametrize("user_id", [NOBODY, "a stranger"])
async def test_users_of_other_tenants_are_not_there(gateway: Gateway, user_id: str) -> None:
    admin, stranger = await gateway.admin(), await gateway.admin()
    named = stranger.user.user_id if user_id != NOBODY else NOBODY
    users, metadata = gateway.users, bearer(admin)
    for call in (
        users.GetUser(pb.GetUserRequest(user_id=named), metadata=metadata),
        change_role(gateway, admin, named, MEMBER),
        disable(gateway, admin, named),
        users.EnableUser(pb.EnableUserRequest(user_id=named), metadata=metadata),
    ):
        assert await outcome(call) == "NOT_FOUND"


async def test_token_of_an_api_key_changes_nobody(gateway: Gateway) -> None:
    admin = await gateway.admin()
    user = (await add(gateway, admin, "ada")).user.user_id
    key = await gateway.auth.CreateApiKey(
        auth.CreateApiKeyRequest(display_name="k"), metadata=bearer(admin)
    )
    by_key = await gateway.auth.ExchangeApiKey(auth.ExchangeApiKeyRequest(api_key=key.secret))
    assert await outcome(change_role(gateway, by_key, user, ADMIN)) == "NOT_ALLOWED"
    assert await outcome(disable(gateway, by_key, user)) == "NOT_ALLOWED"
