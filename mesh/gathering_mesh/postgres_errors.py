"""What the database refuses, as errors of ours, and which constraint it named.

Statements run through SQLAlchemy or straight through asyncpg; here both look the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import asyncpg
import sqlalchemy.exc

from gathering_mesh.errors import (
    Aborted,
    DeadlineExceeded,
    DomainError,
    ResourceExhausted,
    Unavailable,
)

UNIQUE_VIOLATION = "23505"
LOCK_TIMEOUT = "55P03"
_CONFLICTS = {
    "40001": "another transaction changed the same data",
    "40P01": "two transactions waited for each other",
    LOCK_TIMEOUT: "another transaction holds the data for too long",
}
_GONE_CLASSES = ("08", "53", "57P", "58")  # connection, resources, operator's intervention, system
_CANCELED = "57014"
_READ_ONLY = "25006"  # what a primary answers after it became a standby
_RETRY_SECONDS = 1.0
# The driver's state is broken: seen where a server that crashed said so between two operations.
_CONFUSED = asyncpg.InternalClientError
_OF_DRIVER = (asyncpg.PostgresError, asyncpg.InterfaceError, _CONFUSED)
DATABASE_ERRORS = (sqlalchemy.exc.SQLAlchemyError, *_OF_DRIVER)


class DatabaseUnavailable(Unavailable):
    """The database cannot be reached now, or cut the connection; the outcome may be unknown."""


class DatabaseBusy(ResourceExhausted):
    """More calls want a connection than there are; nothing was done."""

    reason = "OVERLOADED"


def busy() -> DatabaseBusy:
    """Return what is told where a connection was waited for in vain."""
    return DatabaseBusy("all database connections are busy", retry_after=_RETRY_SECONDS)


DATABASE_AWAY = (DatabaseUnavailable, DatabaseBusy)  # later it serves; the caller did nothing wrong


def driver_error(error: BaseException | None) -> BaseException | None:
    """Return asyncpg's own error below SQLAlchemy's wrapping, if that is what this is."""
    while error is not None:
        if isinstance(error, _OF_DRIVER):
            return cast("BaseException", error)
        wrapped = isinstance(error, sqlalchemy.exc.DBAPIError)
        error = cast("sqlalchemy.exc.DBAPIError", error).orig if wrapped else error.__cause__
    return None


def sqlstate(error: BaseException) -> str:
    """Return the five characters by which Postgres names the error, empty if it came not so far."""
    return str(getattr(driver_error(error), "sqlstate", "") or "")


def violated_constraint(error: BaseException) -> str:
    """Return the name of the constraint that the error is about, empty if it is about none."""
    return str(getattr(driver_error(error), "constraint_name", "") or "")


@contextmanager
def unique(constraint: str, refusal: Callable[[], DomainError]) -> Iterator[None]:
    """Raise `refusal()` where a statement inside breaks this unique constraint.

    The transaction is over then: Postgres refuses its further statements.
    """
    try:
        yield
    except (sqlalchemy.exc.IntegrityError, asyncpg.UniqueViolationError) as error:
        if sqlstate(error) == UNIQUE_VIOLATION and violated_constraint(error) == constraint:
            raise refusal() from error
        raise


def as_domain_error(error: BaseException) -> DomainError | None:
    """Return what callers are told about a failed statement, None for a fault of ours."""
    state = sqlstate(error)
    if state in _CONFLICTS:
        return Aborted(_CONFLICTS[state], retry_after=0.0)
    if state == _CANCELED:
        return DeadlineExceeded("the database took too long")
    if state == _READ_ONLY or state.startswith(_GONE_CLASSES) or _is_cut(error):
        return DatabaseUnavailable("the database cut the connection", retry_after=_RETRY_SECONDS)
    return None


@contextmanager
def translated() -> Iterator[None]:
    """Raise what the database refuses as errors of ours; its other errors stay as they are."""
    try:
        yield
    except DATABASE_ERRORS as error:
        if refusal := as_domain_error(error):
            raise refusal from error
        raise


@contextmanager
def connecting() -> Iterator[None]:
    """The same around the making of a connection, where the network fails in its own ways."""
    try:
        with translated():
            yield
    except OSError as error:
        message = "the database cannot be reached"
        raise DatabaseUnavailable(message, retry_after=_RETRY_SECONDS) from error


def _is_cut(error: BaseException) -> bool:
    """Tell a lost connection from a wrong use of the driver, both of which are InterfaceErrors."""
    if isinstance(error, sqlalchemy.exc.DBAPIError) and error.connection_invalidated:
        return True
    found = driver_error(error)
    if isinstance(found, _CONFUSED):
        return True
    return isinstance(found, asyncpg.InterfaceError) and "clos" in str(found).lower()
