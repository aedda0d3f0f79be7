"""A gateway in this process: the real app on a real database, with keys and tokens of all sorts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from gathering.gateway.v1 import auth_service_pb2 as pb
from gathering.gateway.v1.audit_service_pb2_grpc import AuditServiceStub
from gathering.gateway.v1.auth_service_pb2_grpc import AuthServiceStub
from gathering.gateway.v1.event_service_pb2_grpc import EventServiceStub
from gathering.gateway.v1.invitation_service_pb2_grpc import InvitationServiceStub
from gathering.gateway.v1.user_service_pb2_grpc import UserServiceStub
from gathering_gateway.admin.app import create_tenant
from gathering_gateway.app import App, open_app
from gathering_gateway.settings import GatewaySettings
from gathering_mesh.client import peer
from gathering_mesh.errors import DomainError
from gathering_mesh.keys import SigningKey
from gathering_mesh.tokens import ACTOR_HEADER, ActorSigner
from tests.support.postgres import TestDatabase

PASSWORD = "a password of tests"
ACTORS = ("agent", "orchestrator", "memory", "skills", "gateway")
Metadata = tuple[tuple[str, str], ...]


@dataclass
class Gateway:
    """A running gateway, a channel to its own port, and who may call it."""

    app: App
    settings: GatewaySettings
    channel: grpc.aio.Channel
    actors: dict[str, SigningKey]
    tenants: int = field(default=0)

    @property
    def auth(self) -> Any:
        """Return the stub of AuthService (untyped: stubs of async channels are another class)."""
        return AuthServiceStub(self.channel)

    @property
    def users(self) -> Any:
        """Return the stub of UserService."""
        return UserServiceStub(self.channel)

    @property
    def invitations(self) -> Any:
        """Return the stub of InvitationService."""
        return InvitationServiceStub(self.channel)

    @property
    def audit(self) -> Any:
        """Return the stub of AuditService."""
        return AuditServiceStub(self.channel)

    @property
    def events(self) -> Any:
        """Return the stub of EventService."""
        return EventServiceStub(self.channel)

    async def tenant(self, email: str = "") -> str:
        """Make a tenant; return the e-mail address of its administrator."""
        self.tenants += 1
        email = email or f"admin{self.tenants}@example.org"
        await create_tenant(self.settings, f"Tenant {self.tenants}", email, PASSWORD)
        return email

    async def log_in(self, email: str, password: str = PASSWORD) -> pb.Tokens:
        """Log in by the service's own port."""
        request = pb.LoginRequest(email=email, password=password)
        answer: pb.Tokens = await self.auth.Login(request, timeout=20)
        return answer

    async def admin(self) -> pb.Tokens:
        """Make a tenant and log in as its administrator."""
        return await self.log_in(await self.tenant())

    def actor(self, service: str) -> str:
        """Return a token of a service."""
        return ActorSigner(service, self.actors[service]).token()


async def outcome(call: Any) -> str:
    """Return `OK`, or the reason of the refusal."""
    try:
        with peer("gateway"):
            await call
    except DomainError as error:
        return error.reason
    return "OK"


def bearer(tokens: pb.Tokens | str, actor: str = "") -> Metadata:
    """Return metadata with a user's token, and a service's."""
    text = tokens if isinstance(tokens, str) else tokens.access_token
    found = (("authorization", f"Bearer {text}"),) if text else ()
    return (*found, *(((ACTOR_HEADER, actor),) if actor else ()))


def make_actors(folder: Path) -> dict[str, SigningKey]:
    """Write the services' keys as a deployment does; return the private ones."""
    keys = {name: SigningKey.generate() for name in ACTORS}
    for name, key in keys.items():
        (folder / f"{name}.pem").write_bytes(key.pem())
    document = {name: {"keys": [key.public_jwk], "scopes": ["*"]} for name, key in keys.items()}
    (folder / "actors.json").write_text(json.dumps(document))
    return keys


@asynccontextmanager
async def running_gateway(
    database: TestDatabase, folder: Path, **changes: Any
) -> AsyncIterator[Gateway]:
    """Serve a gateway on free ports; `changes` are settings."""
    actors = make_actors(folder)
    given: dict[str, Any] = {
        "database_url": database.app("gateway"),
        "system_database_url": database.system("gateway"),
        "actor_key_file": folder / "gateway.pem",
        "actors_file": folder / "actors.json",
        "keys_dir": folder / "keys",
        "password_passes": 1,
        "password_memory_kib": 64,
        **changes,
    }
    settings = GatewaySettings(**given)
    async with open_app(settings) as app:
        work = asyncio.create_task(app.run())
        await app.server.start()
        options = [("grpc.enable_http_proxy", 0)]
        try:
            async with grpc.aio.insecure_channel(
                f"127.0.0.1:{app.server.port}", options=options
            ) as channel:
                yield Gateway(app, settings, channel, actors)
        finally:
            work.cancel()
            await asyncio.wait({work})
            await app.server.stop(0.2)
