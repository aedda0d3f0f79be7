"""Compose what operators do: make tenants, rotate keys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from gathering_gateway.app import argon2_passwords, database_settings, key_folder
from gathering_gateway.errors import EmailTaken
from gathering_gateway.models import User
from gathering_gateway.models_credentials import EMAIL, lookup_key, normal_email
from gathering_gateway.settings import GatewaySettings
from gathering_gateway.store import DirectoryStore, TenantStore, UserStore
from gathering_mesh import migration
from gathering_mesh.postgres import Database

_LEAST_PASSWORD = 12  # as CreateUser has it


class AdminError(Exception):
    """What was asked for cannot be done; the message says why."""


@dataclass(frozen=True, slots=True)
class MadeTenant:
    """A tenant's first administrator; `created` is false where there was one already."""

    user: User
    created: bool


async def create_tenant(
    settings: GatewaySettings, name: str, email: str, password: str
) -> MadeTenant:
    """Make a tenant with an administrator, unless a user with this e-mail address exists.

    Repeatable: an existing user is returned as it is, its password unchanged.
    """
    if len(password) < _LEAST_PASSWORD:
        raise AdminError(f"the password has fewer than {_LEAST_PASSWORD} characters")
    if "@" not in email.strip().strip("@"):
        raise AdminError(f"{email!r} is no e-mail address")
    email = normal_email(email)
    async with Database.open(database_settings(settings), schema="gateway") as db:
        await migration.check(db)
        if found := await _find(db, email):
            return MadeTenant(found, created=False)
        passwords = argon2_passwords(settings)
        try:
            hashed = await passwords.hash(password)
            return MadeTenant(await TenantStore(db).create(name, email, hashed), created=True)
        except EmailTaken:  # another operator was faster
            found = await _find(db, email)
            if found is None:
                raise
            return MadeTenant(found, created=False)
        finally:
            passwords.close()


async def rotate_keys(
    settings: GatewaySettings, delay: float | None, *, drop_others: bool
) -> tuple[str, datetime]:
    """Make a new signing key; return its id and when it begins to sign.

    `delay` in seconds, by the settings where None: at least what caches of the public keys live.
    """
    seconds = settings.key_delay_seconds if delay is None else delay
    made = await key_folder(settings).rotate(seconds, drop_others=drop_others)
    return made.key.kid, datetime.fromtimestamp(made.signs_from, UTC)


async def _find(db: Database, email: str) -> User | None:
    owner = await DirectoryStore(db).owner(lookup_key(EMAIL, email))
    return await UserStore(db).get(owner.tenant_id, owner.id) if owner else None
