"""Signing keys, and the sets of public keys that tokens are verified with.

ES256 only. A key id is the RFC 7638 thumbprint, so that it follows from the key.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx
import jwt
import structlog
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gathering_mesh.errors import Unavailable

ALGORITHM = "ES256"
_log = structlog.get_logger("gathering_mesh.keys")
_FETCH_TIMEOUT = 3.0
_RETRY = 1.0  # seconds after a failed load
_LARGEST_JWKS = 256 * 1024


class SigningKey:
    """A private P-256 key that signs tokens."""

    def __init__(self, private: ec.EllipticCurvePrivateKey) -> None:
        self._private = private
        self._jwk = _public_jwk(private.public_key())

    @classmethod
    def generate(cls) -> SigningKey:
        """Return a new key."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_pem(cls, pem: bytes) -> SigningKey:
        """Read an unencrypted PEM; ValueError if it holds anything but a P-256 private key."""
        private = serialization.load_pem_private_key(pem, password=None)
        if not isinstance(private, ec.EllipticCurvePrivateKey) or private.curve.name != "secp256r1":
            raise ValueError("not a P-256 private key")
        return cls(private)

    @property
    def kid(self) -> str:
        """Return the key id that its tokens carry."""
        return self._jwk["kid"]

    @property
    def public_jwk(self) -> dict[str, str]:
        """Return the public half, for a JWKS document."""
        return dict(self._jwk)

    def pem(self) -> bytes:
        """Return the private key as PKCS 8, for a file of mode 0600."""
        return self._private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Return a token with these claims."""
        return jwt.encode(
            dict(claims), self._private, algorithm=ALGORITHM, headers={"kid": self.kid}
        )


def _public_jwk(public: ec.EllipticCurvePublicKey) -> dict[str, str]:
    numbers = public.public_numbers()
    jwk = {"crv": "P-256", "kty": "EC", "x": _coordinate(numbers.x), "y": _coordinate(numbers.y)}
    canonical = json.dumps(jwk, sort_keys=True, separators=(",", ":")).encode()
    return {**jwk, "kid": _base64url(hashlib.sha256(canonical).digest()), "alg": ALGORITHM,
            "use": "sig"}  # fmt: skip


def _coordinate(value: int) -> str:
    return _base64url(value.to_bytes(32, "big"))


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key; `scopes` caps what a service may claim (None: no cap)."""

    key: jwt.PyJWK
    scopes: frozenset[str] | None = None


KeySet = Mapping[str, VerifyingKey]
Loader = Callable[[], Awaitable[KeySet]]


class KeySource(Protocol):
    """Where verifying keys come from; `generation` changes when a key was added or removed."""

    generation: int

    async def find(self, kid: str) -> VerifyingKey | None:
        """Return the key of this id, None if there is none."""

    async def aclose(self) -> None:
        """Release connections."""


class RefreshingKeys:
    """Keys from a loader, read again when old or when a key id is unknown.

    Unknown ids cause at most one load per `minimum_interval` seconds, so forged tokens cannot be
    used to flood the issuer. A failed load keeps the known keys. Callers wait for a load only if
    their own key is not known.
    """

    def __init__(
        self,
        load: Loader,
        *,
        close: Callable[[], Awaitable[None]] | None = None,
        refresh_seconds: float = 300.0,
        minimum_interval: float = 5.0,
    ) -> None:
        self._load = load
        self._close = close
        self._refresh_seconds = refresh_seconds
        self._minimum_interval = minimum_interval
        self._keys: KeySet = {}
        self._loaded_at = float("-inf")
        self._next_try = float("-inf")
        self._lock = asyncio.Lock()
        self.generation = 0

    async def find(self, kid: str) -> VerifyingKey | None:
        """Return the key of this id after a refresh where one is due.

        Unavailable as long as no load has succeeded: nobody can be told valid from invalid.
        """
        known = kid in self._keys
        old = time.monotonic() - self._loaded_at >= self._refresh_seconds
        if (old or not known) and not (known and self._lock.locked()):
            await self._refresh()
        if self._loaded_at < 0:
            raise Unavailable("tokens cannot be verified now", retry_after=_RETRY)
        return self._keys.get(kid)

    async def _refresh(self) -> None:
        async with self._lock:
            if time.monotonic() < self._next_try:
                return  # also for those who waited while another caller loaded
            try:
                keys = await self._load()
            except (OSError, ValueError, httpx.HTTPError, jwt.PyJWTError) as error:
                _log.warning("keys_not_loaded", error=repr(error))
                self._next_try = time.monotonic() + min(_RETRY, self._minimum_interval)
                return
            self._loaded_at = time.monotonic()
            self._next_try = self._loaded_at + self._minimum_interval
            if _identity(keys) != _identity(self._keys):
                self._keys = keys
                self.generation += 1

    async def aclose(self) -> None:
        """Release connections."""
        if self._close is not None:
            await self._close()


def keys_at(
    url: str, *, refresh_seconds: float = 300.0, minimum_interval: float = 5.0
) -> RefreshingKeys:
    """Return the keys of the JWKS document at a URL; of several with commas, the first that is."""
    client = httpx.AsyncClient(timeout=_FETCH_TIMEOUT)
    *others, last = url.split(",")

    async def load() -> KeySet:
        for each in others:
            with contextlib.suppress(httpx.HTTPError, ValueError):
                return await _fetched(client, each)
        return await _fetched(client, last)

    return RefreshingKeys(
        load,
        close=client.aclose,
        refresh_seconds=refresh_seconds,
        minimum_interval=minimum_interval,
    )


async def _fetched(client: httpx.AsyncClient, url: str) -> KeySet:
    try:
        response = await client.get(url)
    except (AttributeError, RuntimeError) as error:
        # What uvloop and anyio make of a peer that died while the connection was made.
        raise httpx.ConnectError(repr(error)) from error
    response.raise_for_status()
    if len(response.content) > _LARGEST_JWKS:
        raise ValueError("the JWKS document is too large")
    return read_jwks(response.json())


def actor_keys_in(
    path: Path, *, refresh_seconds: float = 60.0, minimum_interval: float = 5.0
) -> RefreshingKeys:
    """Return the services' keys of a file; ids are `<service>/<kid>`."""

    async def load() -> KeySet:
        text = await asyncio.to_thread(path.read_text)
        return read_actors(json.loads(text))

    return RefreshingKeys(load, refresh_seconds=refresh_seconds, minimum_interval=minimum_interval)


def keys_of(keys: Callable[[], KeySet]) -> RefreshingKeys:
    """Return keys that this process holds itself (the issuer verifies its own tokens)."""

    async def load() -> KeySet:
        return keys()

    return RefreshingKeys(load, refresh_seconds=5.0, minimum_interval=0.0)


def read_jwks(document: Any, scopes: frozenset[str] | None = None) -> dict[str, VerifyingKey]:
    """Read a JWKS document; keys of other kinds than ours are left out. ValueError if it is none.

    An entry without `kid` is left out: it could not be told from another on rotation.
    """
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise ValueError("not a JWKS document")  # noqa: TRY004 (bad content, not a bad call)
    return {
        jwk["kid"]: VerifyingKey(jwt.PyJWK.from_dict(jwk, algorithm=ALGORITHM), scopes)
        for jwk in document["keys"]
        if isinstance(jwk, dict) and jwk.get("crv") == "P-256" and jwk.get("kid")
    }


def read_actors(document: Any) -> dict[str, VerifyingKey]:
    """Read `{"<service>": {"keys": [...], "scopes": [...]}}`; `scopes` may be absent."""
    if not isinstance(document, dict):
        raise ValueError("not a document of actors")  # noqa: TRY004 (bad content, not a bad call)
    return dict(_actors(document))


def _actors(document: dict[str, Any]) -> Iterator[tuple[str, VerifyingKey]]:
    for service, entry in document.items():
        cap = entry.get("scopes") if isinstance(entry, dict) else None
        scopes = None if cap is None else frozenset(map(str, cap))
        for kid, key in read_jwks(entry, scopes).items():
            yield f"{service}/{kid}", key


def _identity(keys: KeySet) -> dict[str, object]:
    """Return what tells one key set from another: a key may change under its id."""
    return {kid: (found.key.key.public_numbers(), found.scopes) for kid, found in keys.items()}
