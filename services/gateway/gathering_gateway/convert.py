"""Users, keys and tokens: from the contract and back."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from gathering.gateway.v1 import auth_pb2, auth_service_pb2
from gathering_gateway.models import (
    ApiKey,
    Delegation,
    Invitation,
    LoginSession,
    NewUser,
    Role,
    Tokens,
    User,
)

_PREFIX = "ROLE_"


def new_user(request: auth_service_pb2.CreateUserRequest) -> NewUser:
    """Return the user that a request describes."""
    return NewUser(request.email, request.password, request.display_name, role(request.role))


def role(value: auth_pb2.Role.ValueType) -> Role:
    """Return a role; ValueError for UNSPECIFIED, which the contract refuses."""
    return Role(auth_pb2.Role.Name(value).removeprefix(_PREFIX).lower())


def user_message(user: User) -> auth_pb2.User:
    """Return a user as the contract has it."""
    return auth_pb2.User(
        user_id=user.user_id,
        tenant_id=user.tenant_id,
        email=user.email,
        display_name=user.display_name,
        role=auth_pb2.Role.Value(f"{_PREFIX}{user.role.name}"),
        create_time=timestamp(user.create_time),
        disable_time=timestamp(user.disable_time),
    )


def tokens_message(tokens: Tokens) -> auth_service_pb2.Tokens:
    """Return tokens as the contract has them."""
    return auth_service_pb2.Tokens(
        access_token=tokens.access.text,
        expire_time=timestamp(tokens.access.expire_time),
        refresh_token=tokens.refresh_token,
        user=user_message(tokens.user),
    )


def api_key_message(key: ApiKey) -> auth_pb2.ApiKey:
    """Return an API key as the contract has it."""
    return auth_pb2.ApiKey(
        api_key_id=key.api_key_id,
        display_name=key.display_name,
        user_id=key.user_id,
        create_time=timestamp(key.create_time),
        expire_time=timestamp(key.expire_time),
        revoke_time=timestamp(key.revoke_time),
        scopes=sorted(key.scopes),
        last_use_time=timestamp(key.last_use_time),
    )


def invitation_message(found: Invitation) -> auth_pb2.Invitation:
    """Return an invitation as the contract has it."""
    return auth_pb2.Invitation(
        invitation_id=found.invitation_id,
        email=found.email,
        display_name=found.display_name,
        role=auth_pb2.Role.Value(f"{_PREFIX}{found.role.name}"),
        inviter_user_id=found.inviter_user_id,
        user_id=found.user_id,
        create_time=timestamp(found.create_time),
        expire_time=timestamp(found.expire_time),
        accept_time=timestamp(found.accept_time),
        revoke_time=timestamp(found.revoke_time),
    )


def login_message(login: LoginSession) -> auth_pb2.LoginSession:
    """Return a login as the contract has it."""
    return auth_pb2.LoginSession(
        login_id=login.login_id,
        create_time=timestamp(login.create_time),
        expire_time=timestamp(login.expire_time),
    )


def delegation_message(found: Delegation) -> auth_pb2.Delegation:
    """Return a delegation as the contract has it."""
    return auth_pb2.Delegation(
        delegation_id=found.delegation_id,
        user_id=found.user_id,
        actor=found.actor,
        purpose_id=found.purpose_id,
        create_time=timestamp(found.create_time),
        revoke_time=timestamp(found.revoke_time),
        expire_time=timestamp(found.expire_time),
    )


def timestamp(moment: datetime | None) -> Timestamp | None:
    """Return a moment as the contract has it, None for None."""
    if moment is None:
        return None
    made = Timestamp()
    made.FromDatetime(moment.astimezone(UTC))
    return made
