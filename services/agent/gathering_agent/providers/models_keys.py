"""A tenant's own keys of providers."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Sealed:
    """An encrypted secret: its own key, encrypted with the master key of an id, and its content."""

    master: str
    wrapped: bytes
    content: bytes


@dataclass(frozen=True, slots=True)
class ProviderKey:
    """A key as it is stored; `last` are the characters that are shown of it."""

    id: str
    provider: str
    last: str
    user_id: str
    set_time: datetime
    sealed: Sealed = field(repr=False)


@dataclass(frozen=True, slots=True)
class Credential:
    """Whose key a call is made with, and the key; `tenant` is empty for the operator's."""

    provider: str
    secret: str = field(repr=False)
    tenant: str = ""
