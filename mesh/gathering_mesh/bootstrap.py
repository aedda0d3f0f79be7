"""Make a service's roles, schema and rights, as the database's administrator; again and again.

Three roles: `<svc>` serves, bound by row-level security; `<svc>_sys` runs the mesh's own tables;
`<svc>_mig` owns the schema and migrates it. None of them may bypass row-level security. An
administrator need not be a superuser: CREATEROLE and the ownership of the database are enough
where the extension `vector` is installed.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg

_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")
_SCRAM_ITERATIONS = 4096
_RACES = 20
_RACE_PAUSE = 0.05  # seconds
# Roles belong to the whole server, so another database's bootstrap may touch them at the same time.
_LOST_RACE = (
    asyncpg.UniqueViolationError,
    asyncpg.DuplicateObjectError,
    asyncpg.InternalServerError,  # "tuple concurrently updated"
)
_SETTINGS = {"lock_timeout": "5s", "statement_timeout": "30s"}
# A process that is frozen or cut off inside a transaction lets go of its locks after this; that of
# the system role may be the one on the head of the log, which all replicas wait for.
_IDLE = {"": "30s", "_sys": "5s"}
_LOCK = "select pg_advisory_xact_lock(hashtext('gathering.bootstrap'))"
_VECTOR = "select extnamespace::regnamespace::text from pg_extension where extname = 'vector'"
_UNBOUND = "select rolname from pg_roles where rolname = any($1) and (rolsuper or rolbypassrls)"


class BootstrapError(Exception):
    """The database cannot be set up as it is; a person has to look."""


async def bootstrap(admin_dsn: str, service: str, passwords: Mapping[str, str]) -> None:
    """Make roles, schema and rights of a service, in a database that is made if it is not there.

    `passwords` are by the role's name: `<svc>`, `<svc>_sys`, `<svc>_mig`. Safe to repeat and to
    run at the same time by several.
    """
    if not _NAME.fullmatch(service):
        raise BootstrapError(f"{service!r} cannot be the name of a schema")
    dsn = admin_dsn.replace("+asyncpg", "", 1)
    for race in range(_RACES):
        admin = await _connect(dsn)
        try:
            async with admin.transaction():
                await _set_up(admin, service, passwords)
        except _LOST_RACE:
            if race == _RACES - 1:
                raise
            await asyncio.sleep(_RACE_PAUSE)
        else:
            return
        finally:
            await admin.close()


async def _connect(dsn: str) -> Any:
    try:
        return await asyncpg.connect(dsn)
    except asyncpg.InvalidCatalogNameError:
        await _create_database(dsn)
        return await asyncpg.connect(dsn)


async def _create_database(dsn: str) -> None:
    parts = urlsplit(dsn)
    server = await asyncpg.connect(urlunsplit(parts._replace(path="/postgres")))
    try:
        await server.execute(f"create database {_quoted(parts.path.removeprefix('/'))}")
    except (asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
        return  # another bootstrap was faster
    finally:
        await server.close()


async def _set_up(admin: Any, service: str, passwords: Mapping[str, str]) -> None:
    await admin.execute(_LOCK)
    roles = (service, f"{service}_sys", f"{service}_mig")
    extensions = await _extensions(admin)
    for role in roles:
        await _make_role(admin, role, passwords[role])
        await admin.execute(f"alter role {role} set search_path = {service}, {extensions}")
    for suffix, idle in _IDLE.items():
        settings = {**_SETTINGS, "idle_in_transaction_session_timeout": idle}
        for name, value in settings.items():
            await admin.execute(f"alter role {service}{suffix} set {name} = '{value}'")
    if unbound := await admin.fetchval(_UNBOUND, list(roles)):
        raise BootstrapError(f"role {unbound} is not bound by row-level security")
    if not await admin.fetchval("select rolsuper from pg_roles where rolname = current_user"):
        await admin.execute(f"grant {service}_mig to current_user")
    await _make_schemas(admin, service, extensions)


async def _extensions(admin: Any) -> str:
    """Return the schema where `vector` is, which is made unless somebody did."""
    found = await admin.fetchval(_VECTOR)
    if found is None:
        await admin.execute("create schema if not exists extensions")
        await admin.execute("create extension vector schema extensions")
    return str(found or "extensions")


async def _make_role(admin: Any, role: str, password: str) -> None:
    if not await admin.fetchval("select exists (select from pg_roles where rolname = $1)", role):
        await admin.execute(f"create role {role}")
    await admin.execute(f"alter role {role} login password '{_scram(password)}'")


async def _make_schemas(admin: Any, service: str, extensions: str) -> None:
    database = _quoted(await admin.fetchval("select current_database()"))
    roles = f"{service}, {service}_sys, {service}_mig"
    for statement in (
        f"revoke all on database {database} from public",
        f"grant connect on database {database} to {roles}",
        "revoke all on schema public from public",
        f"grant usage on schema {extensions} to {roles}",
        f"create schema if not exists {service} authorization {service}_mig",
        f"revoke all on schema {service} from public",
        f"grant usage on schema {service} to {service}, {service}_sys",
    ):
        await admin.execute(statement)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _scram(password: str) -> str:
    """Return what Postgres stores of a password (RFC 5803); no log can show more than that."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _SCRAM_ITERATIONS)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored = hashlib.sha256(client_key).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    encoded = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${_SCRAM_ITERATIONS}:{encoded[0]}${encoded[1]}:{encoded[2]}"
