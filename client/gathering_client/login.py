"""Ways to log in, and the token that they give, renewed before it ends."""

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from gathering.gateway.v1 import auth_service_pb2 as pb
from gathering_client.errors import GatheringError

if TYPE_CHECKING:
    from gathering.gateway.v1.auth_service_pb2_grpc import AuthServiceAsyncStub

_RENEW_BEFORE = 60.0  # seconds
_TIMEOUT = 15.0


@dataclass(frozen=True)
class Login:
    """E-mail and password."""

    email: str
    password: str

    async def tokens(self, auth: "AuthServiceAsyncStub") -> pb.Tokens:
        """Log in."""
        request = pb.LoginRequest(email=self.email, password=self.password)
        return await auth.Login(request, timeout=_TIMEOUT)


@dataclass(frozen=True)
class ApiKey:
    """An API key's secret."""

    secret: str

    async def tokens(self, auth: "AuthServiceAsyncStub") -> pb.Tokens:
        """Exchange the key."""
        request = pb.ExchangeApiKeyRequest(api_key=self.secret)
        return await auth.ExchangeApiKey(request, timeout=_TIMEOUT)


@dataclass(frozen=True)
class Session:
    """A refresh token of an earlier login."""

    refresh_token: str

    async def tokens(self, auth: "AuthServiceAsyncStub") -> pb.Tokens:
        """Renew the login."""
        request = pb.RefreshRequest(refresh_token=self.refresh_token)
        return await auth.Refresh(request, timeout=_TIMEOUT)


class Credentials(Protocol):
    """A way to get tokens: one of the above, or a caller's own."""

    async def tokens(self, auth: "AuthServiceAsyncStub") -> pb.Tokens:
        """Return new tokens."""


class TokenSource:
    """Holds an access token and renews it when it nears its end."""

    def __init__(self, auth: "AuthServiceAsyncStub", credentials: Credentials) -> None:
        self._auth = auth
        self._credentials = credentials
        self._tokens: pb.Tokens | None = None
        self._lock = asyncio.Lock()

    async def token(self, *, fresh: bool = False) -> str:
        """Return a token that is good for a minute at least; `fresh`: another than the last."""
        async with self._lock:
            if fresh or self._tokens is None or self._ends_soon(self._tokens):
                self._tokens = await self._renewed()
            return self._tokens.access_token

    async def _renewed(self) -> pb.Tokens:
        if self._tokens is not None and self._tokens.refresh_token:
            try:
                return await Session(self._tokens.refresh_token).tokens(self._auth)
            except GatheringError as error:
                if error.status != "UNAUTHENTICATED":
                    raise
        return await self._credentials.tokens(self._auth)

    @staticmethod
    def _ends_soon(tokens: pb.Tokens) -> bool:
        return tokens.expire_time.seconds - time.time() < _RENEW_BEFORE

    @property
    def refresh_token(self) -> str:
        """Return the refresh token that is valid now; empty before the first login."""
        return self._tokens.refresh_token if self._tokens else ""
