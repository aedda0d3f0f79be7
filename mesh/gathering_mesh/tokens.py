"""Tokens: a service signs its own, and verifies those of users and of other services.

A user's token: ES256, issuer and audience `gathering`, claims sub, tenant, role, scope, exp, iat,
jti; dlg or key: the delegation or API key that it was made from. A service's token (actor): issuer
and subject are its name, audience `gathering-mesh`. Tokens are never logged nor part of an error.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jwt

from gathering_mesh.call import Principal
from gathering_mesh.errors import PermissionDenied, Unauthenticated
from gathering_mesh.keys import ALGORITHM, KeySource, SigningKey, VerifyingKey
from gathering_mesh.options import USER, Rule

ISSUER = "gathering"
AUDIENCE = "gathering"
ACTOR_AUDIENCE = "gathering-mesh"
AUTHORIZATION = "authorization"
ACTOR_HEADER = "x-gathering-actor"
ALL_SCOPES = "*"  # of a service that may do whatever its user may

_LONGEST_TOKEN = 8192  # characters
_LEEWAY = 5.0  # seconds that clocks may differ
_CACHED_TOKENS = 4096

Claims = Mapping[str, Any]


class ActorSigner:
    """Signs this service's own tokens and reuses each until near its end."""

    LIFETIME = 300  # seconds
    RENEWED_BEFORE = 60  # seconds before the end

    def __init__(
        self,
        service: str,
        key: SigningKey,
        scopes: frozenset[str] = frozenset({ALL_SCOPES}),
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.service = service
        self.scopes = scopes
        self._key = key
        self._clock = clock
        self._token = ""
        self._issued_at = -math.inf

    def token(self) -> str:
        """Return a token that is good for at least a minute."""
        now = self._clock()
        # Where the clock was set back, the one at hand is of a time to come, and refused.
        if not 0 <= now - self._issued_at <= self.LIFETIME - self.RENEWED_BEFORE:
            self._issued_at = now
            self._token = self._key.sign(
                {
                    "iss": self.service,
                    "sub": self.service,
                    "aud": ACTOR_AUDIENCE,
                    "scope": " ".join(sorted(self.scopes)),
                    "iat": int(now),
                    "exp": int(now + self.LIFETIME),
                }
            )
        return self._token


def user_claims(
    *, tenant: str, user: str, role: str, scopes: frozenset[str], lifetime: float,
    delegation: str | None = None, api_key: str | None = None, now: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return the claims of a user's token, for the issuer to sign; `lifetime` in seconds."""
    issued = time.time() if now is None else now
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": user,
        "tenant": tenant,
        "role": role,
        "scope": " ".join(sorted(scopes)),
        "iat": int(issued),
        "exp": int(issued + lifetime),
        "jti": uuid.uuid4().hex,
    }
    origin = {"dlg": delegation, "key": api_key}
    return claims | {name: id for name, id in origin.items() if id is not None}


@dataclass(frozen=True, slots=True)
class Actor:
    """A verified service."""

    service: str
    scopes: frozenset[str]
    expires_at: float

    def cut(self, scopes: frozenset[str]) -> frozenset[str]:
        """Return those of a user's scopes that this service may use."""
        return scopes if ALL_SCOPES in self.scopes else scopes & self.scopes


@dataclass(frozen=True, slots=True)
class _Verified:
    claims: Claims
    key: VerifyingKey
    key_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class _Kind:
    """What tells one kind of token from another."""

    what: str
    audience: str
    texts: tuple[str, ...]  # claims that are non-empty text, beside issuer and subject
    key_id: Callable[[str, str], str]  # from issuer and kid; empty: no such issuer


_USER = _Kind(
    "token", AUDIENCE, ("tenant", "role"), lambda issuer, kid: kid if issuer == ISSUER else ""
)
_ACTOR = _Kind(
    "actor token",
    ACTOR_AUDIENCE,
    (),
    lambda issuer, kid: f"{issuer}/{kid}" if kid and "/" not in issuer and issuer != USER else "",
)


class _Verifier:
    """Verifies tokens of one kind; a token that was good is not verified again until it ends."""

    def __init__(self, kind: _Kind, keys: KeySource, clock: Callable[[], float]) -> None:
        self.keys = keys
        self._kind = kind
        self._clock = clock
        self._cache: dict[str, _Verified] = {}

    async def verify(self, token: str) -> _Verified:
        """Return the claims; Unauthenticated where the token is not good now."""
        found = self._cache.get(token)
        if found is not None:
            await self.keys.find(found.key_id)  # has old key sets read again
        if found is None or found.generation != self.keys.generation:
            self._cache.pop(token, None)
            found = await self._verify(token)
        if found.claims["exp"] <= self._clock() - _LEEWAY:
            self._cache.pop(token, None)
            raise Unauthenticated(f"the {self._kind.what} has expired", reason="TOKEN_EXPIRED")
        if token not in self._cache:
            self._remember(token, found)
        return found

    def _remember(self, token: str, found: _Verified) -> None:
        if len(self._cache) >= _CACHED_TOKENS:
            self._cache.pop(next(iter(self._cache)))
        self._cache[token] = found

    async def _verify(self, token: str) -> _Verified:
        key_id = self._key_id(token)
        key = await self.keys.find(key_id) if key_id else None
        if key is None:
            raise self._invalid()
        generation = self.keys.generation
        try:
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[ALGORITHM],
                audience=self._kind.audience,
                leeway=_LEEWAY,
                options={"require": ["iss", "sub", "aud", "exp", "iat"], "verify_exp": False},
            )
        except jwt.PyJWTError as error:
            raise self._invalid() from error
        texts = ("iss", "sub", *self._kind.texts)
        if not all(isinstance(claims.get(name), str) and claims[name] for name in texts):
            raise self._invalid()
        if not isinstance(claims["exp"], int | float) or not isinstance(claims.get("scope"), str):
            raise self._invalid()
        return _Verified(claims, key, key_id, generation)

    def _key_id(self, token: str) -> str:
        if len(token) > _LONGEST_TOKEN:
            raise self._invalid()
        try:
            parts = jwt.decode_complete(token, options={"verify_signature": False})
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise self._invalid() from error
        issuer, kid = parts["payload"].get("iss"), parts["header"].get("kid")
        if not isinstance(issuer, str) or not isinstance(kid, str):
            raise self._invalid()
        return self._kind.key_id(issuer, kid)

    def _invalid(self) -> Unauthenticated:
        return Unauthenticated(f"the {self._kind.what} is not valid", reason="TOKEN_INVALID")


class Authenticator:
    """Says who calls and whether the rule of the RPC admits them."""

    def __init__(
        self, users: KeySource, actors: KeySource, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._users = _Verifier(_USER, users, clock)
        self._actors = _Verifier(_ACTOR, actors, clock)

    async def aclose(self) -> None:
        """Release connections."""
        await self._users.keys.aclose()
        await self._actors.keys.aclose()

    async def principal(self, rule: Rule, metadata: Mapping[str, str]) -> Principal:
        """Return the caller; Unauthenticated or PermissionDenied where the rule refuses."""
        if rule.public:
            return Principal.anonymous()
        actor = await self._actor(metadata.get(ACTOR_HEADER))
        bearer = _bearer(metadata.get(AUTHORIZATION))
        if bearer is None and not (rule.internal and actor is not None):
            raise Unauthenticated("a user's token is needed", reason="TOKEN_MISSING")
        if bearer is None:
            assert actor is not None  # noqa: S101 (said above; for the type checker)
            principal = Principal.service(actor.service, actor.scopes, actor.expires_at)
        else:
            principal = await self.subject(bearer, actor)
        _refuse_unfit(rule, principal)
        return principal

    async def known(self, metadata: Mapping[str, str]) -> None:
        """Raise Unauthenticated unless the caller is any user or service."""
        bearer = _bearer(metadata.get(AUTHORIZATION))
        actor = await self._actor(metadata.get(ACTOR_HEADER))
        if bearer is not None:
            await self._users.verify(bearer)
        elif actor is None:
            raise Unauthenticated("a token is needed", reason="TOKEN_MISSING")

    async def subject(self, token: str, actor: Actor | None = None) -> Principal:
        """Return the user of a token, with the scopes cut by those of the acting service."""
        claims = (await self._users.verify(token)).claims
        scopes = frozenset(claims["scope"].split())
        return Principal(
            tenant=claims["tenant"],
            user=claims["sub"],
            scopes=scopes if actor is None else actor.cut(scopes),
            role=claims["role"],
            actor=None if actor is None else actor.service,
            delegation=_text(claims, "dlg"),
            token=token,
            expires_at=float(claims["exp"]),
            api_key=_text(claims, "key"),
        )

    async def acting(self, token: str, service: str) -> Principal:
        """Return the user of a token that this service itself acts with."""
        return replace(await self.subject(token), actor=service)

    async def _actor(self, token: str | None) -> Actor | None:
        if token is None:
            return None
        found = await self._actors.verify(token)
        scopes = frozenset(found.claims["scope"].split())
        cap = found.key.scopes
        if cap is not None and ALL_SCOPES not in cap:
            scopes = cap if ALL_SCOPES in scopes else scopes & cap
        return Actor(found.claims["iss"], scopes, float(found.claims["exp"]))


def _text(claims: Claims, name: str) -> str | None:
    return found if isinstance(found := claims.get(name), str) else None


def _bearer(header: str | None) -> str | None:
    if header is None:
        return None
    kind, _, token = header.partition(" ")
    if kind.lower() != "bearer" or not token:
        raise Unauthenticated("authorization must be: Bearer <token>", reason="TOKEN_INVALID")
    return token


def _refuse_unfit(rule: Rule, principal: Principal) -> None:
    if not rule.admits(principal.actor):
        who = f"the service {principal.actor}" if principal.actor else "a user"
        raise PermissionDenied(f"{who} may not call this", reason="ACTOR_REFUSED")
    if rule.scope and rule.scope not in principal.scopes:
        raise PermissionDenied(
            f"the scope {rule.scope} is missing",
            reason="SCOPE_MISSING",
            metadata={"scope": rule.scope},
        )
