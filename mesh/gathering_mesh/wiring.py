"""Open from settings what every service serves and calls with; composition roots start here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gathering_mesh.client import Channels
from gathering_mesh.keys import KeySource, SigningKey, actor_keys_in, keys_at
from gathering_mesh.server import GrpcServer
from gathering_mesh.settings import ServiceSettings
from gathering_mesh.tokens import ActorSigner, Authenticator


class SettingsError(Exception):
    """A setting is missing or wrong; the message names it as the environment does."""


@dataclass(frozen=True, slots=True)
class Mesh:
    """A server to add services to, and the means to call others."""

    server: GrpcServer
    authenticator: Authenticator
    signer: ActorSigner
    channels: Channels


@asynccontextmanager
async def open_mesh(
    settings: ServiceSettings, *, users: KeySource | None = None
) -> AsyncIterator[Mesh]:
    """Yield server, authenticator, signer and channels; `users` replaces the keys at the URL."""
    signer = await read_signer(settings)
    if settings.actors_file is None:
        raise SettingsError("GATHERING_ACTORS_FILE is not set")
    if users is None and not settings.user_jwks_url:
        raise SettingsError("GATHERING_USER_JWKS_URL is not set")
    authenticator = Authenticator(
        users or keys_at(settings.user_jwks_url), actor_keys_in(settings.actors_file)
    )
    channels = Channels(settings, signer)
    try:
        yield Mesh(GrpcServer(settings.server, authenticator), authenticator, signer, channels)
    finally:
        await channels.close()
        await authenticator.aclose()


async def read_signer(settings: ServiceSettings) -> ActorSigner:
    """Return the signer of this service's own tokens."""
    if settings.actor_key_file is None:
        raise SettingsError("GATHERING_ACTOR_KEY_FILE is not set")
    pem = await asyncio.to_thread(settings.actor_key_file.read_bytes)
    return ActorSigner(settings.service, SigningKey.from_pem(pem))
