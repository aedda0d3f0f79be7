"""Who is calling, for whom, under which key and until when: the first argument of every verb.

Pure values: no gRPC, no protobuf, no clock of their own but `time.monotonic` for deadlines.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Principal:
    """The verified caller: a user, a service that acts for a user, or a service on its own.

    `scopes` are those that count: of the user's token, cut with those of the acting service.
    `actor` is the calling service, None for a user who calls directly. `expires_at` is in
    seconds since the epoch (wall time), infinite where nothing expires. `delegation` and `api_key`
    are the ids of what the token was made from, None where it came of a login.
    """

    tenant: str
    user: str
    scopes: frozenset[str]
    role: str
    actor: str | None = None
    delegation: str | None = None
    token: str = field(default="", repr=False)
    expires_at: float = math.inf
    api_key: str | None = None

    @classmethod
    def anonymous(cls) -> Principal:
        """Return the caller of a public RPC, about whom nothing is known."""
        return cls(tenant="", user="", scopes=frozenset(), role="")

    @classmethod
    def service(cls, actor: str, scopes: frozenset[str], expires_at: float) -> Principal:
        """Return a service that calls on its own account: no tenant, no user."""
        return cls(
            tenant="", user="", scopes=scopes, role="service", actor=actor, expires_at=expires_at
        )

    @property
    def has_subject(self) -> bool:
        """Tell whether a user stands behind this call."""
        return bool(self.user)


@dataclass(frozen=True, slots=True)
class RequestKey:
    """The idempotency key of one mutation; `digest` tells a repetition from another request."""

    method: str
    request_id: str
    digest: bytes  # canonical hash of the request without request_id


class Closing:
    """Says when a stream should end by itself: the server drains or the caller's token ended."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._told: set[Callable[[], None]] = set()
        self.reason = ""  # DRAINING or TOKEN_EXPIRED, empty while the stream may go on

    def close(self, reason: str) -> None:
        """Ask the stream to end; the first reason stays."""
        if not self.reason:
            self.reason = reason
            self._event.set()
            for tell in tuple(self._told):
                tell()

    def __bool__(self) -> bool:
        """Tell whether the stream should end now."""
        return bool(self.reason)

    @contextmanager
    def telling(self, tell: Callable[[], None]) -> Iterator[None]:
        """Have this called when the stream should end; not where it should already."""
        self._told.add(tell)
        try:
            yield
        finally:
            self._told.discard(tell)

    async def wait(self) -> str:
        """Return the reason once there is one."""
        await self._event.wait()
        return self.reason


@dataclass(frozen=True, slots=True)
class Call:
    """One call as its handler sees it.

    `deadline` is in seconds of `time.monotonic()`; `trace` is a W3C traceparent whose span is
    this call; `correlation_id` is the request id that logs and answers show; `closing` is for
    streams, see `gathering_mesh.streams`. `address` is where the client called the edge from, empty
    where no edge stands between.
    """

    principal: Principal
    method: str
    deadline: float | None = None
    trace: str = ""
    request_key: RequestKey | None = None
    correlation_id: str = ""
    address: str = ""
    closing: Closing = field(default_factory=Closing, compare=False, repr=False)

    @property
    def tenant(self) -> str:
        """Return the caller's tenant, empty where no user stands behind the call."""
        return self.principal.tenant

    @property
    def user(self) -> str:
        """Return the caller's user id, empty where no user stands behind the call."""
        return self.principal.user

    def remaining(self) -> float | None:
        """Return the seconds left until the deadline (never below zero), None without one."""
        if self.deadline is None:
            return None
        return max(0.0, self.deadline - time.monotonic())

    def known_as(self, tenant: str, user: str) -> Call:
        """Return the call of somebody unknown as that of a user, whose credential was looked at."""
        nobody = Principal.anonymous()
        return replace(self, principal=replace(nobody, tenant=tenant, user=user))

    def derived(self, request_id: str) -> Call:
        """Return this call under another key: same caller, deadline and trace.

        For a step inside a larger mutation. The digest is that of the outer request, so that a
        repetition with another body is still refused.
        """
        digest = self.request_key.digest if self.request_key else hashlib.sha256().digest()
        return replace(self, request_key=RequestKey(self.method, request_id, digest))


def new_trace() -> str:
    """Return the traceparent of a new sampled trace."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
