"""The form of secrets: made by us, shown once, kept as hashes.

`<kind>_<handle>_<secret>`. The handle (64 bits) finds the row over all tenants; the secret (256
bits) proves it. Secrets of that size need no slow hash: nobody can try them all.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Literal

Kind = Literal["gak", "grt", "ginv"]
API_KEY: Kind = "gak"
REFRESH_TOKEN: Kind = "grt"  # noqa: S105 (a kind, not a token)
INVITATION: Kind = "ginv"
EMAIL = "email"
_HANDLE_BYTES = 8
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret as it is handed out; `lookup` and `hash` are what is stored."""

    kind: Kind
    handle: str
    text: str

    @classmethod
    def generate(cls, kind: Kind, handle: str = "") -> Secret:
        """Return a new one; with a handle, the successor of another."""
        handle = handle or secrets.token_hex(_HANDLE_BYTES)
        return cls(kind, handle, f"{kind}_{handle}_{secrets.token_urlsafe(_SECRET_BYTES)}")

    @classmethod
    def read(cls, kind: Kind, text: str) -> Secret | None:
        """Return the secret that a caller presents, None where it cannot be one."""
        found, _, rest = text.partition("_")
        handle, _, secret = rest.partition("_")
        return cls(kind, handle, text) if found == kind and handle and secret else None

    @property
    def lookup(self) -> bytes:
        """Return what the row is found by."""
        return lookup_key(self.kind, self.handle)

    @property
    def hash(self) -> bytes:
        """Return what proves it."""
        return hashlib.sha256(self.text.encode()).digest()

    def proves(self, stored: bytes) -> bool:
        """Tell whether this is the secret with the stored hash, in constant time."""
        return hmac.compare_digest(self.hash, stored)


def lookup_key(kind: str, handle: str) -> bytes:
    """Return the key of the look-up over all tenants: it tells nothing of the handle itself."""
    return hashlib.sha256(f"{kind}:{handle}".encode()).digest()


def normal_email(email: str) -> str:
    """Return the form in which e-mail addresses are stored and compared."""
    return email.strip().lower()
