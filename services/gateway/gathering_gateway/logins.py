"""Let users in: by password, API key or refresh token; and out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gathering_gateway.errors import CredentialsInvalid, CredentialsRevoked, RateLimited
from gathering_gateway.models import ApiKey, Rotation, Tokens, User
from gathering_gateway.models_credentials import (
    API_KEY,
    EMAIL,
    REFRESH_TOKEN,
    Secret,
    lookup_key,
    normal_email,
)
from gathering_gateway.ports import ApiKeys, Directory, Logins, Passwords, Users
from gathering_gateway.tokens import Issuer
from gathering_mesh.call import Call

_KEY_ENDED = "the API key was revoked, or its user disabled"


@dataclass(frozen=True, slots=True)
class Limits:
    """How often a credential may be wrong within a window, and how long refresh tokens live."""

    attempts: int
    window: timedelta
    refresh_life: timedelta


@dataclass(frozen=True, slots=True)
class Door:
    """Who comes in. What was wrong with a credential is told to the feed, not to the caller."""

    directory: Directory
    users: Users
    logins: Logins
    api_keys: ApiKeys
    passwords: Passwords
    issuer: Issuer
    limits: Limits

    async def log_in(self, call: Call, email: str, password: str) -> Tokens:
        """Exchange e-mail and password for tokens.

        The attempt is counted before the password is looked at, so that many at once do not pass.
        """
        user, stored = await self.prove(call, email, password)
        known = call.known_as(user.tenant_id, user.user_id)
        secret = Secret.generate(REFRESH_TOKEN)
        if not await self.logins.begin(
            known, stored, secret.lookup, secret.hash, self.limits.refresh_life
        ):
            await self.users.refused(known, CredentialsRevoked.reason)
            raise CredentialsRevoked("the user is disabled, or the password was just changed")
        return Tokens(await self.issuer.token(user), secret.text, user)

    async def prove(self, call: Call, email: str, password: str) -> tuple[User, str]:
        """Return the user of an address with the stored hash, where this is the password."""
        key = lookup_key(EMAIL, normal_email(email))
        await self._count(key)
        owner = await self.directory.owner(key)
        found = owner and await self.users.password_hash(owner.tenant_id, owner.id)
        good = await self.passwords.verify(password, found[1] if found else None)
        if not found or not good:
            if found:
                await self._refused(call, found[0])
            raise CredentialsInvalid("e-mail or password are wrong")
        await self.directory.forget(key)
        return found

    async def exchange_api_key(self, call: Call, text: str) -> Tokens:
        """Exchange an API key for an access token that does not outlive it."""
        secret = Secret.read(API_KEY, text)
        owner = await self.directory.owner(secret.lookup) if secret else None
        found = await self.api_keys.find(owner) if owner else None
        if secret is None or found is None:
            raise CredentialsInvalid("the API key is wrong")
        key = found[0]
        user = await self._user(key.tenant_id, key.user_id)
        if not secret.proves(found[1]):
            await self._refused(call, user)
            await self._count(secret.lookup)
            raise CredentialsInvalid("the API key is wrong")
        await self._refuse_ended(call, key, user)
        known = call.known_as(user.tenant_id, user.user_id)
        if not await self.logins.by_key(known, key.api_key_id):
            await self._refused(call, user, CredentialsRevoked.reason)
            raise CredentialsRevoked(_KEY_ENDED)
        token = await self.issuer.token(
            user, until=key.expire_time, api_key=key.api_key_id, scopes=key.scopes
        )
        return Tokens(token, "", user)

    async def refresh(self, call: Call, text: str) -> Tokens:
        """Exchange a refresh token for new tokens; a second use ends the login."""
        secret = Secret.read(REFRESH_TOKEN, text)
        owner = await self.directory.owner(secret.lookup) if secret else None
        if secret is None or owner is None:
            raise CredentialsInvalid("the refresh token is wrong")
        successor = Secret.generate(REFRESH_TOKEN, secret.handle)
        outcome, user_id = await self.logins.rotate(
            call, owner, secret.hash, successor.hash, self.limits.refresh_life
        )
        match outcome:
            case Rotation.UNKNOWN:
                raise CredentialsInvalid("the refresh token is wrong or has expired")
            case Rotation.REUSED:
                raise CredentialsRevoked("the refresh token was used before; log in again")
            case Rotation.REVOKED:
                raise CredentialsRevoked("the login has been ended")
        user = await self._user(owner.tenant_id, user_id)
        if user.disable_time is not None:
            raise CredentialsRevoked("the user is disabled")
        return Tokens(await self.issuer.token(user), successor.text, user)

    async def log_out(self, text: str) -> None:
        """End the login that a refresh token belongs to; a token that is none ends nothing."""
        secret = Secret.read(REFRESH_TOKEN, text)
        owner = await self.directory.owner(secret.lookup) if secret else None
        if secret is not None and owner is not None:
            await self.logins.end(owner, secret.hash)

    async def _count(self, key: bytes) -> None:
        attempts = await self.directory.attempt(key, self.limits.window)
        if attempts.count > self.limits.attempts:
            raise RateLimited(
                "too many attempts; try again later", retry_after=max(1.0, attempts.seconds_left)
            )

    async def _refuse_ended(self, call: Call, key: ApiKey, user: User) -> None:
        if key.revoke_time is not None or user.disable_time is not None:
            await self._refused(call, user, CredentialsRevoked.reason)
            raise CredentialsRevoked(_KEY_ENDED)
        if key.expire_time is not None and key.expire_time <= datetime.now(UTC):
            await self._refused(call, user)
            raise CredentialsInvalid("the API key has expired")

    async def _refused(
        self, call: Call, user: User, reason: str = CredentialsInvalid.reason
    ) -> None:
        await self.users.refused(call.known_as(user.tenant_id, user.user_id), reason)

    async def _user(self, tenant: str, user_id: str) -> User:
        user = await self.users.get(tenant, user_id)
        if user is None:
            raise CredentialsInvalid("there is no such user")
        return user
