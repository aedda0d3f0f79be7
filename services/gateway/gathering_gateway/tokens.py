"""Issue the access tokens of users."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from gathering_gateway.models import ROLE_SCOPES, SCOPES, AccessToken, User
from gathering_gateway.ports import Signing
from gathering_mesh.tokens import user_claims


@dataclass(frozen=True, slots=True)
class Issuer:
    """Signs tokens that live `lifetime` seconds."""

    keys: Signing
    lifetime: float

    async def token(
        self, user: User, *, until: datetime | None = None, delegation: str | None = None,
        api_key: str | None = None, scopes: frozenset[str] = frozenset(),
    ) -> AccessToken:  # fmt: skip
        """Return a token of a user; it ends at `until` at the latest, and names its origin.

        `scopes` narrow what the role allows; none do not.
        """
        now = time.time()
        life = self.lifetime if until is None else min(self.lifetime, until.timestamp() - now)
        claims = user_claims(
            tenant=user.tenant_id,
            user=user.user_id,
            role=user.role,
            scopes=ROLE_SCOPES[user.role] & (scopes or SCOPES),
            lifetime=life,
            delegation=delegation,
            api_key=api_key,
            now=now,
        )
        key = await self.keys.signing()
        return AccessToken(key.sign(claims), datetime.fromtimestamp(claims["exp"], UTC))
