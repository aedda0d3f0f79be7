"""Keep keys out of what is told of failures: a provider may repeat what it was sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from gathering_mesh.errors import DomainError

_HIDDEN = "***"
Error = TypeVar("Error", bound=DomainError)


def tells(error: BaseException, secret: str) -> bool:
    """Tell whether a failure, or one that led to it, holds a secret."""
    return bool(secret) and any(secret in f"{one!r} {one}" for one in _chain(error))


def without(error: Error, secret: str) -> Error:
    """Return a failure without a secret, to be raised `from None`."""
    hidden = type(error).__new__(type(error))
    hidden.__dict__.update(error.__dict__)
    hidden.message = error.message.replace(secret, _HIDDEN)
    hidden.args = (hidden.message,)
    return hidden


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
