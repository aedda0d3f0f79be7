"""Manage users, API keys and delegations."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from gathering_gateway.errors import (
    ActorRefused,
    CredentialsRevoked,
    Missing,
    NotAllowed,
    ScopesRefused,
)
from gathering_gateway.models import AccessToken, ApiKey, Delegation, NewApiKey, NewUser, User
from gathering_gateway.models_credentials import API_KEY, Secret, normal_email
from gathering_gateway.ports import ApiKeys, DelegationRows, Passwords, Users
from gathering_gateway.tokens import Issuer
from gathering_mesh.call import Call
from gathering_mesh.paging import decode_token, encode_token, page_size, query_fingerprint


@dataclass(frozen=True, slots=True)
class People:
    """The users of the caller's tenant."""

    users: Users
    passwords: Passwords
    _turns: WeakValueDictionary[tuple[str, str, str], asyncio.Lock] = field(
        default_factory=WeakValueDictionary
    )

    async def me(self, call: Call) -> User:
        """Return the caller."""
        user = await self.users.get(call.tenant, call.user)
        if user is None:
            raise Missing("user")
        return user

    async def create(self, call: Call, new: NewUser) -> User:
        """Create a user.

        Twins come one after the other, so that the slow hash is made once and not for each.
        """
        refuse_lent(call)
        async with self._turn(call):
            if made := await self.users.created(call):
                return made
            password = await self.passwords.hash(new.password)
            email = normal_email(new.email)
            return await self.users.create(call, email, new.display_name, new.role, password)

    async def page(self, call: Call, size: int, token: str) -> tuple[Sequence[User], str]:
        """Return a page of users by e-mail and the token of the next."""
        limit = page_size(size)
        query = query_fingerprint("users", call.tenant)
        after = decode_token(query, token)
        found = await self.users.page(call.tenant, str(after[0]) if after else "", limit + 1)
        more = len(found) > limit
        return found[:limit], encode_token(query, [found[limit - 1].email]) if more else ""

    def _turn(self, call: Call) -> AbstractAsyncContextManager[None]:
        if call.request_key is None:
            return nullcontext()
        key = (call.tenant, call.user, call.request_key.request_id)
        return self._turns.setdefault(key, asyncio.Lock())


@dataclass(frozen=True, slots=True)
class Keys:
    """The caller's API keys."""

    api_keys: ApiKeys

    async def create(self, call: Call, new: NewApiKey) -> tuple[ApiKey, str]:
        """Return a new key and its secret, which is not kept."""
        refuse_lent(call)
        if unknown := new.scopes - call.principal.scopes:
            raise ScopesRefused(", ".join(sorted(unknown)))
        secret = Secret.generate(API_KEY)
        key = await self.api_keys.create(call, new, secret.lookup, secret.hash)
        return key, secret.text

    async def page(self, call: Call, size: int, token: str) -> tuple[Sequence[ApiKey], str]:
        """Return a page of keys, newest first, and the token of the next."""
        limit = page_size(size)
        query = query_fingerprint("api_keys", call.tenant, call.user)
        before = decode_token(query, token)
        found = await self.api_keys.page(call, str(before[0]) if before else "", limit + 1)
        more = len(found) > limit
        return found[:limit], encode_token(query, [found[limit - 1].api_key_id]) if more else ""

    async def revoke(self, call: Call, api_key_id: str) -> ApiKey:
        """Revoke a key; the tokens made from it end by themselves."""
        key = await self.api_keys.revoke(call, api_key_id)
        if key is None:
            raise Missing("api_key")
        return key


@dataclass(frozen=True, slots=True)
class Delegations:
    """What services may do for users after the users' tokens have ended."""

    rows: DelegationRows
    users: Users
    issuer: Issuer

    async def create(self, call: Call, purpose_id: str) -> Delegation:
        """Let the calling service act for the calling user.

        One that is made with a token of another delegation, or of an API key, ends with it.
        """
        if call.principal.actor is None:  # the contract's rule admits services only
            raise ActorRefused("a delegation is made by the service that will act")
        return await self.rows.create(call, call.principal.actor, purpose_id)

    async def exchange(self, call: Call, tenant: str, delegation_id: str) -> AccessToken:
        """Return a token of the user, for the service that the delegation was made for."""
        found = await self.rows.get(tenant, delegation_id)
        if found is None:
            raise Missing("delegation")
        if found.actor != call.principal.actor:
            raise ActorRefused("the delegation was made for another service")
        if found.ended:
            raise CredentialsRevoked("the delegation, or what it was made under, has ended")
        user = await self.users.get(tenant, found.user_id)
        if user is None:
            raise Missing("user")
        await self.rows.used(tenant, delegation_id)
        return await self.issuer.token(
            user, until=found.key_expire_time, delegation=delegation_id, scopes=found.scopes
        )

    async def revoke(self, call: Call, delegation_id: str) -> Delegation:
        """End a delegation of the caller, and those that were made under it."""
        found = await self.rows.revoke(call, delegation_id)
        if found is None:
            raise Missing("delegation")
        return found


def refuse_lent(call: Call) -> None:
    """Keep who may act for a while, and be stopped, from making credentials that last."""
    if call.principal.delegation is not None:
        raise ActorRefused("the token of a delegation cannot make credentials")
    if call.principal.api_key is not None:
        raise NotAllowed("the token of an API key cannot make credentials; log in by password")
