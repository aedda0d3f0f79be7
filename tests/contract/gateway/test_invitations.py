"""Invitations: by them people set their passwords, once."""

from __future__ import annotations

import asyncio
from typing import Any

from gathering.gateway.v1 import auth_pb2
from gathering.gateway.v1 import auth_service_pb2 as auth
from gathering.gateway.v1 import invitation_service_pb2 as pb
from tests.support.gateway import PASSWORD, Gateway, bearer, outcome

NEW = "another password of tests"
EMAIL = "eve@example.org"


async def invite(
    gateway: Gateway, admin: auth.Tokens, email: str = EMAIL
) -> pb.CreateInvitationResponse:
    request = pb.CreateInvitationRequest(email=email, display_name="Eve", role=auth_pb2.ROLE_MEMBER)
    made: pb.CreateInvitationResponse = await gateway.invitations.CreateInvitation(
        request, metadata=bearer(admin)
    )
    return made


def accept(gateway: Gateway, secret: str, password: str = NEW) -> Any:
    request = pb.AcceptInvitationRequest(secret=secret, password=password)
    return gateway.invitations.AcceptInvitation(request)


async def open_ones(gateway: Gateway, admin: auth.Tokens) -> list[str]:
    found = await gateway.invitations.ListInvitations(
        pb.ListInvitationsRequest(), metadata=bearer(admin)
    )
    return [each.invitation_id for each in found.invitations]


async def test_invited_user_sets_a_password_and_logs_in(gateway: Gateway) -> None:
    admin = await gateway.admin()
    made = await invite(gateway, admin, "Eve@Example.org")
    assert await open_ones(gateway, admin) == [made.invitation.invitation_id]
    user = await accept(gateway, made.secret)
    assert (user.email, user.display_name, user.role) == (EMAIL, "Eve", auth_pb2.ROLE_MEMBER)
    assert user.tenant_id == admin.user.tenant_id
    assert (await gateway.log_in(EMAIL, NEW)).user == user
    assert await open_ones(gateway, admin) == []


async def test_invitation_is_accepted_once(gateway: Gateway) -> None:
    made = await invite(gateway, await gateway.admin())
    found = await asyncio.gather(*(outcome(accept(gateway, made.secret)) for _ in range(4)))
    assert sorted(found) == ["CREDENTIALS_REVOKED"] * 3 + ["OK"]
    assert await outcome(accept(gateway, made.secret)) == "CREDENTIALS_REVOKED"


async def test_wrong_secret_opens_nothing(gateway: Gateway) -> None:
    made = await invite(gateway, await gateway.admin())
    head = made.secret.rpartition("_")[0]
    for secret in ("rubbish", f"{head}_x", made.secret[:-1], "ginv_0_0", "gak_0_0"):
        assert await outcome(accept(gateway, secret)) == "CREDENTIALS_INVALID"
    assert await outcome(accept(gateway, made.secret)) == "OK"


async def test_second_invitation_replaces_the_first(gateway: Gateway) -> None:
    admin = await gateway.admin()
    first, second = await invite(gateway, admin), await invite(gateway, admin)
    assert await open_ones(gateway, admin) == [second.invitation.invitation_id]
    assert await outcome(accept(gateway, first.secret)) == "CREDENTIALS_REVOKED"
    assert await outcome(accept(gateway, second.secret)) == "OK"


async def test_revoked_invitation_opens_nothing(gateway: Gateway) -> None:
    admin, stranger = await gateway.admin(), await gateway.admin()
    made = await invite(gateway, admin)

    def revoke(by: auth.Tokens) -> Any:
        named = pb.RevokeInvitationRequest(invitation_id=made.invitation.invitation_id)
        return gateway.invitations.RevokeInvitation(named, metadata=bearer(by))

    assert await outcome(revoke(stranger)) == "NOT_FOUND"
    first = await revoke(admin)
    assert first.HasField("revoke_time")
    assert await revoke(admin) == first
    assert await outcome(accept(gateway, made.secret)) == "CREDENTIALS_REVOKED"


async def test_taken_address_is_not_invited(gateway: Gateway) -> None:
    email = await gateway.tenant()
    admin = await gateway.log_in(email)
    assert await outcome(invite(gateway, admin, email)) == "ALREADY_EXISTS"


async def test_address_taken_meanwhile_refuses_the_second(gateway: Gateway) -> None:
    """Two tenants invite the same person; where they are told is not told to either."""
    made = [await invite(gateway, await gateway.admin()) for _ in range(2)]
    assert await outcome(accept(gateway, made[0].secret)) == "OK"
    assert await outcome(accept(gateway, made[1].secret)) == "ALREADY_EXISTS"


async def test_reset_password_ends_the_logins_when_it_is_accepted(gateway: Gateway) -> None:
    admin = await gateway.admin()
    user = await accept(gateway, (await invite(gateway, admin)).secret, PASSWORD)
    tokens = await gateway.log_in(EMAIL)
    made = await gateway.invitations.ResetPassword(
        pb.ResetPasswordRequest(user_id=user.user_id), metadata=bearer(admin)
    )
    assert await outcome(gateway.log_in(EMAIL)) == "OK"
    assert (await accept(gateway, made.secret)).user_id == user.user_id
    assert await outcome(gateway.log_in(EMAIL)) == "CREDENTIALS_INVALID"
    assert await outcome(gateway.log_in(EMAIL, NEW)) == "OK"
    again = gateway.auth.Refresh(auth.RefreshRequest(refresh_token=tokens.refresh_token))
    assert await outcome(again) == "CREDENTIALS_REVOKED"
