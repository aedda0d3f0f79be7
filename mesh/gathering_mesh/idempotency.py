"""Make a mutation happen once per request id: the key is the first row of its transaction.

A twin waits for that row's lock, so it sees either the committed result or no key at all: a
mutation that fails leaves nothing behind and may be tried again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from gathering_mesh.call import Call, RequestKey
from gathering_mesh.errors import Aborted, InvalidArgument
from gathering_mesh.postgres_errors import LOCK_TIMEOUT, sqlstate
from gathering_mesh.statements import Row, Statements

_RETRY_SECONDS = 1.0
# The short lock timeout is set before the row is inserted, which is made from it, and the usual one
# again afterwards, for all that follows: its sub-select is read to the end first. An expired key
# that no sweep has met yet is as good as none.
_CLAIM = """
with wait as materialized (
    select current_setting('lock_timeout') as usual, set_config('lock_timeout', $7, true) as short),
claimed as (
    insert into idempotency as i (tenant_id, principal, method, request_id, digest)
    select $1, $2, $3, $4, $5 from wait where wait.short is not null
    on conflict (tenant_id, principal, method, request_id) do update
    set digest = excluded.digest, result = null, created_at = now()
    where i.created_at < now() - $6::interval
    returning 1)
select n > 0, set_config('lock_timeout', wait.usual, true)
from (select count(*) as n from claimed) c, wait
"""
_FIRST = """
select digest, result from idempotency
where tenant_id = $1 and principal = $2 and method = $3 and request_id = $4
"""
_EARLIER = f"{_FIRST} and created_at >= now() - $5::interval"
_FINISH = """
update idempotency set result = $5
where tenant_id = $1 and principal = $2 and method = $3 and request_id = $4
"""
_SWEEP = "delete from idempotency where created_at < now() - $1::interval"


@dataclass(frozen=True, slots=True)
class IdempotencySettings:
    """How long a key is kept, and how long a twin waits (seconds) for the first to end."""

    lifetime: timedelta = timedelta(hours=24)
    wait: float = 1.0


class Finished(NamedTuple):
    """A mutation at its end: its key, and the id of what it made."""

    key: tuple[str, str, str, str]
    result: str


def key_of(tenant: str, call: Call, key: RequestKey) -> tuple[str, str, str, str]:
    """Return what a request id is unique within: tenant, caller and method.

    A service that acts for a user has keys of its own, beside those that the user chose.
    """
    principal = "/".join(filter(None, (call.principal.user, call.principal.actor)))
    return tenant, principal, key.method, key.request_id


async def claim(
    tx: Statements,
    key: tuple[str, str, str, str],
    digest: bytes,
    settings: IdempotencySettings,
) -> str | None:
    """Take the key for this transaction; return the first call's result if there was one.

    Raises Aborted (REQUEST_IN_PROGRESS) when a twin does not end in time, InvalidArgument
    (REQUEST_ID_REUSED) when the request was another.
    """
    wait = f"{round(settings.wait * 1000)}ms"
    try:
        taken = await tx.fetch_value(_CLAIM, *key, digest, settings.lifetime, wait)
    except Exception as error:
        if sqlstate(error) != LOCK_TIMEOUT:
            raise
        raise Aborted(
            "a call with this request_id is still running",
            reason="REQUEST_IN_PROGRESS",
            retry_after=_RETRY_SECONDS,
        ) from error
    return None if taken else await _first_result(tx, key, digest)


async def _first_result(tx: Statements, key: tuple[str, str, str, str], digest: bytes) -> str:
    first = await tx.fetch_one(_FIRST, *key)
    if first is None:  # swept between the two statements
        raise Aborted("the key of this request_id has just expired", retry_after=0.0)
    return _result(first, digest)


async def look(
    tx: Statements,
    key: tuple[str, str, str, str],
    digest: bytes,
    settings: IdempotencySettings,
) -> str | None:
    """Return the result of a call that has ended; take nothing and wait for nobody."""
    first = await tx.fetch_one(_EARLIER, *key, settings.lifetime)
    return None if first is None else _result(first, digest)


def _result(first: Row, digest: bytes) -> str:
    if first["digest"] != digest:
        raise InvalidArgument(
            "this request_id was used before with another request",
            reason="REQUEST_ID_REUSED",
            fields={"request_id": "was used before with another request"},
        )
    return str(first["result"])


async def finish(tx: Statements, finished: Finished) -> None:
    """Keep the id of what the mutation made; it becomes visible with the commit."""
    await tx.run(_FINISH, *finished.key, finished.result)


async def sweep(tx: Statements, settings: IdempotencySettings) -> int:
    """Delete expired keys of all tenants (as the system role); return how many."""
    return await tx.run(_SWEEP, settings.lifetime)
