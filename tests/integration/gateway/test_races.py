"""Two at once, each at a replica of its own: of what can be had once, one has it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gathering.gateway.v1 import auth_pb2
from gathering.gateway.v1 import auth_service_pb2 as auth
from gathering.gateway.v1 import invitation_service_pb2 as invitations
from gathering.gateway.v1 import user_service_pb2 as users
from tests.support.fixtures import NewDatabase
from tests.support.gateway import PASSWORD, Gateway, bearer, outcome, running_gateway
from tests.support.postgres import TestDatabase
from tests.support.waiting import eventually

ROUNDS = 5
MEMBER, ADMIN = auth_pb2.ROLE_MEMBER, auth_pb2.ROLE_ADMIN


@dataclass(frozen=True)
class Two:
    """Two replicas over one database."""

    database: TestDatabase
    one: Gateway
    other: Gateway

    @property
    def both(self) -> tuple[Gateway, Gateway]:
        """Return them."""
        return self.one, self.other

    async def user(self, admin: auth.Tokens, name: str, role: Any = MEMBER) -> auth.Tokens:
        """Make a user, who logs in at the other replica."""
        new = auth.CreateUserRequest(email=f"{name}@example.org", password=PASSWORD, role=role)
        await self.one.auth.CreateUser(new, metadata=bearer(admin))
        return await self.other.log_in(new.email)


@pytest.fixture
async def two(new_database: NewDatabase, tmp_path: Path) -> AsyncIterator[Two]:
    """Run them; the keys are shared, as a deployment has it."""
    database = await new_database("gateway")
    async with AsyncExitStack() as stack:
        folders = [tmp_path / name for name in ("one", "other")]
        for folder in folders:
            folder.mkdir()
        one, other = [
            await stack.enter_async_context(
                running_gateway(database, folder, keys_dir=tmp_path / "keys")
            )
            for folder in folders
        ]
        yield Two(database, one, other)


def refresh(gateway: Gateway, token: str) -> Any:
    return gateway.auth.Refresh(auth.RefreshRequest(refresh_token=token))


def log_in(gateway: Gateway, email: str, password: str = PASSWORD) -> Any:
    return gateway.auth.Login(auth.LoginRequest(email=email, password=password))


def change_password(gateway: Gateway, tokens: auth.Tokens, old: str, new: str) -> Any:
    request = users.ChangePasswordRequest(old_password=old, new_password=new)
    return gateway.users.ChangePassword(request, metadata=bearer(tokens))


def by_key(gateway: Gateway, secret: str) -> Any:
    return gateway.auth.ExchangeApiKey(auth.ExchangeApiKeyRequest(api_key=secret))


async def test_refresh_token_used_twice_at_once_works_once_and_ends_the_login(two: Two) -> None:
    email = await two.one.tenant()
    for _ in range(ROUNDS):
        held = (await two.one.log_in(email)).refresh_token
        found = await asyncio.gather(
            *(refresh(each, held) for each in two.both), return_exceptions=True
        )
        won = [each for each in found if isinstance(each, auth.Tokens)]
        assert len(won) == 1, found
        for token in (held, won[0].refresh_token):
            assert await outcome(refresh(two.other, token)) == "CREDENTIALS_REVOKED"


async def test_invitation_accepted_twice_at_once_makes_one_user_with_one_password(two: Two) -> None:
    admin = await two.one.admin()
    for n in range(ROUNDS):
        email = f"guest{n}@example.org"
        asked = invitations.CreateInvitationRequest(email=email, role=MEMBER)
        made = await two.one.invitations.CreateInvitation(asked, metadata=bearer(admin))
        chosen = [f"the password of {name}" for name in ("the first", "the second")]
        found = await asyncio.gather(*(
            outcome(each.invitations.AcceptInvitation(
                invitations.AcceptInvitationRequest(secret=made.secret, password=password)
            ))
            for each, password in zip(two.both, chosen, strict=True)
        ))  # fmt: skip
        assert sorted(found) == ["CREDENTIALS_REVOKED", "OK"]
        told = [await outcome(log_in(two.one, email, password)) for password in chosen]
        assert told == ["OK" if each == "OK" else "CREDENTIALS_INVALID" for each in found]


async def test_address_invited_twice_at_once_has_one_open_invitation(two: Two) -> None:
    admin = await two.one.admin()
    for n in range(ROUNDS):
        asked = invitations.CreateInvitationRequest(email=f"guest{n}@example.org", role=MEMBER)
        await asyncio.gather(
            *(each.invitations.CreateInvitation(asked, metadata=bearer(admin)) for each in two.both)
        )
        found = await two.one.invitations.ListInvitations(
            invitations.ListInvitationsRequest(), metadata=bearer(admin)
        )
        assert [each.email for each in found.invitations].count(asked.email) == 1


@pytest.mark.parametrize("how", ["demote", "disable", "demote and disable", "step down"])
async def test_two_administrators_who_end_each_other_leave_one(two: Two, how: str) -> None:
    for n in range(ROUNDS):
        first = await two.one.admin()
        second = await two.user(first, f"second{n}", ADMIN)
        pairs = [(two.one, first, second), (two.other, second, first)]
        if how == "step down":
            pairs = [(two.one, first, first), (two.other, second, second)]
        found = await asyncio.gather(
            *(outcome(_end(*pair, how, at)) for at, pair in enumerate(pairs))
        )
        assert sorted(found) == ["OK", "WRONG_STATE"], how


def _end(gateway: Gateway, by: auth.Tokens, whom: auth.Tokens, how: str, at: int) -> Any:
    if how == "disable" or (how == "demote and disable" and at):
        request = users.DisableUserRequest(user_id=whom.user.user_id)
        return gateway.users.DisableUser(request, metadata=bearer(by))
    demoted = users.ChangeUserRoleRequest(user_id=whom.user.user_id, role=MEMBER)
    return gateway.users.ChangeUserRole(demoted, metadata=bearer(by))


@pytest.mark.parametrize("what", ["the key is revoked", "the user is disabled"])
async def test_key_that_ends_while_it_is_used_gives_no_token(two: Two, what: str) -> None:
    admin = await two.one.admin()
    user = await two.user(admin, "keyed")
    new = auth.CreateApiKeyRequest(display_name="k")
    key = await two.one.auth.CreateApiKey(new, metadata=bearer(user))
    column = "api_key set revoked_at" if "key" in what else "member set disabled_at"
    ended = f"update gateway.{column} = now() where not id = any ($1)"
    connection = await asyncpg.connect(two.database.admin)
    try:
        async with connection.transaction():
            await connection.execute(ended, [admin.user.user_id])  # and not committed yet
            used = [asyncio.create_task(outcome(by_key(each, key.secret))) for each in two.both]

            async def both_wait() -> bool:
                return await two.database.lock_waits() == len(used)

            await eventually(both_wait, "both came to where the key is used")
    finally:
        await connection.close()
    assert await asyncio.gather(*used) == ["CREDENTIALS_REVOKED"] * 2


async def test_key_revoked_while_many_use_it_opens_nothing_afterwards(two: Two) -> None:
    admin = await two.one.admin()
    new = auth.CreateApiKeyRequest(display_name="k")
    key = await two.one.auth.CreateApiKey(new, metadata=bearer(admin))
    used = [asyncio.create_task(outcome(by_key(each, key.secret))) for each in two.both * ROUNDS]
    ask = auth.RevokeApiKeyRequest(api_key_id=key.api_key.api_key_id)
    await two.other.auth.RevokeApiKey(ask, metadata=bearer(admin))
    late = [await outcome(by_key(each, key.secret)) for each in two.both]
    assert late == ["CREDENTIALS_REVOKED"] * 2
    assert set(await asyncio.gather(*used)) <= {"OK", "CREDENTIALS_REVOKED"}


async def test_login_with_the_old_password_during_its_change_does_not_last(two: Two) -> None:
    email = await two.one.tenant()
    old = PASSWORD
    for n in range(ROUNDS):
        tokens = await two.one.log_in(email, old)
        new = f"password number {n} of tests"
        *begun, changed = await asyncio.gather(
            *(log_in(each, email, old) for each in two.both * 2),
            change_password(two.other, tokens, old, new),
            return_exceptions=True,
        )
        assert isinstance(changed, auth_pb2.User), changed
        came = [each for each in begun if isinstance(each, auth.Tokens)]
        for each in came:
            assert await outcome(refresh(two.one, each.refresh_token)) == "CREDENTIALS_REVOKED"
        assert await outcome(log_in(two.one, email, old)) == "CREDENTIALS_INVALID"
        old = new


async def test_password_changed_twice_at_once_is_that_of_one(two: Two) -> None:
    email = await two.one.tenant()
    tokens = await two.one.log_in(email)
    chosen = [f"the {name} password of tests" for name in ("first", "second")]
    found = await asyncio.gather(*(
        outcome(change_password(each, tokens, PASSWORD, new))
        for each, new in zip(two.both, chosen, strict=True)
    ))  # fmt: skip
    assert sorted(found) == ["CREDENTIALS_INVALID", "OK"]
    assert [await outcome(log_in(two.one, email, new)) for new in chosen] == found
