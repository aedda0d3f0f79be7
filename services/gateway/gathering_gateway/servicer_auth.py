"""Serves `AuthService`."""

from __future__ import annotations

from dataclasses import dataclass

from gathering.gateway.v1 import auth_pb2
from gathering.gateway.v1 import auth_service_pb2 as pb
from gathering_gateway import convert
from gathering_gateway.accounts import Delegations, Keys, People
from gathering_gateway.logins import Door
from gathering_gateway.models import NewApiKey
from gathering_mesh.call import Call


@dataclass(frozen=True, slots=True)
class AuthServicer:
    """Converts, calls a verb, converts."""

    door: Door
    people: People
    keys: Keys
    delegations: Delegations

    async def Login(self, request: pb.LoginRequest, call: Call) -> pb.Tokens:
        """Exchange e-mail and password."""
        return convert.tokens_message(await self.door.log_in(call, request.email, request.password))

    async def ExchangeApiKey(self, request: pb.ExchangeApiKeyRequest, call: Call) -> pb.Tokens:
        """Exchange an API key."""
        return convert.tokens_message(await self.door.exchange_api_key(call, request.api_key))

    async def Refresh(self, request: pb.RefreshRequest, call: Call) -> pb.Tokens:
        """Exchange a refresh token."""
        return convert.tokens_message(await self.door.refresh(call, request.refresh_token))

    async def Logout(self, request: pb.LogoutRequest, call: Call) -> pb.LogoutResponse:
        """End a login."""
        await self.door.log_out(request.refresh_token)
        return pb.LogoutResponse()

    async def GetMe(self, request: pb.GetMeRequest, call: Call) -> auth_pb2.User:
        """Return the caller."""
        return convert.user_message(await self.people.me(call))

    async def CreateUser(self, request: pb.CreateUserRequest, call: Call) -> auth_pb2.User:
        """Create a user."""
        return convert.user_message(await self.people.create(call, convert.new_user(request)))

    async def ListUsers(self, request: pb.ListUsersRequest, call: Call) -> pb.ListUsersResponse:
        """List users."""
        users, following = await self.people.page(call, request.page_size, request.page_token)
        return pb.ListUsersResponse(
            users=map(convert.user_message, users), next_page_token=following
        )

    async def CreateApiKey(
        self, request: pb.CreateApiKeyRequest, call: Call
    ) -> pb.CreateApiKeyResponse:
        """Create an API key."""
        life = request.time_to_live.ToTimedelta() if request.HasField("time_to_live") else None
        new = NewApiKey(request.display_name, life, frozenset(request.scopes))
        key, secret = await self.keys.create(call, new)
        return pb.CreateApiKeyResponse(api_key=convert.api_key_message(key), secret=secret)

    async def ListApiKeys(
        self, request: pb.ListApiKeysRequest, call: Call
    ) -> pb.ListApiKeysResponse:
        """List the caller's keys."""
        keys, following = await self.keys.page(call, request.page_size, request.page_token)
        return pb.ListApiKeysResponse(
            api_keys=map(convert.api_key_message, keys), next_page_token=following
        )

    async def RevokeApiKey(self, request: pb.RevokeApiKeyRequest, call: Call) -> auth_pb2.ApiKey:
        """Revoke a key."""
        return convert.api_key_message(await self.keys.revoke(call, request.api_key_id))

    async def CreateDelegation(
        self, request: pb.CreateDelegationRequest, call: Call
    ) -> auth_pb2.Delegation:
        """Let a service act for the caller."""
        made = await self.delegations.create(call, request.purpose_id)
        return convert.delegation_message(made)

    async def ExchangeDelegation(
        self, request: pb.ExchangeDelegationRequest, call: Call
    ) -> pb.ExchangeDelegationResponse:
        """Return a token of a delegation's user."""
        token = await self.delegations.exchange(call, request.tenant_id, request.delegation_id)
        return pb.ExchangeDelegationResponse(
            access_token=token.text, expire_time=convert.timestamp(token.expire_time)
        )

    async def RevokeDelegation(
        self, request: pb.RevokeDelegationRequest, call: Call
    ) -> auth_pb2.Delegation:
        """End a delegation."""
        return convert.delegation_message(
            await self.delegations.revoke(call, request.delegation_id)
        )
