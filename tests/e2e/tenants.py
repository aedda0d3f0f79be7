"""Tenants as tests know them: an administrator who is logged in."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import pytest

from gathering.gateway.v1 import auth_pb2, auth_service_pb2
from gathering.gateway.v1.auth_service_pb2_grpc import AuthServiceStub
from gathering_client import Gathering, Login
from gathering_gateway.admin.app import create_tenant
from gathering_gateway.settings import GatewaySettings
from tests.e2e.mesh import LocalMesh
from tests.e2e.rpcs import OPTIONS

PASSWORD = "correct horse battery"
_RENEWED_BEFORE = 120.0  # seconds

if TYPE_CHECKING:
    from gathering.gateway.v1.auth_service_pb2_grpc import AuthServiceAsyncStub


@dataclass(frozen=True)
class Held:
    """Credentials whose tokens were got once for all tests: logging in is slow on purpose."""

    tenant: Tenant

    async def tokens(self, auth: AuthServiceAsyncStub) -> auth_service_pb2.Tokens:
        """Return the tokens, without the refresh token: it is good for one use."""
        copy = auth_service_pb2.Tokens()
        copy.CopyFrom(self.tenant.tokens)
        copy.refresh_token = ""
        return copy


@dataclass(frozen=True)
class Tenant:
    """A user of a tenant: its administrator, if nothing else is said."""

    url: str
    email: str
    password: str
    held: auth_service_pb2.Tokens

    @property
    def tokens(self) -> auth_service_pb2.Tokens:
        """Return tokens that are good for a while: the tests take longer than an access token."""
        if self.held.expire_time.seconds - time.time() < _RENEWED_BEFORE:
            self.renew()
        return self.held

    def renew(self) -> None:
        """Get new tokens: those who open streams want the whole life of one.

        By password, since tests that try everything end logins too.
        """
        address = self.url.removeprefix("http://")
        with grpc.insecure_channel(address, options=OPTIONS) as channel:
            request = auth_service_pb2.LoginRequest(email=self.email, password=self.password)
            self.held.CopyFrom(AuthServiceStub(channel).Login(request))

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Return what a call carries."""
        return (("authorization", f"Bearer {self.tokens.access_token}"),)

    @property
    def tenant_id(self) -> str:
        """Return the tenant's id."""
        return self.tokens.user.tenant_id

    @property
    def user_id(self) -> str:
        """Return the user's id."""
        return self.tokens.user.user_id

    @property
    def administers(self) -> bool:
        """Tell whether the user is an administrator."""
        return self.tokens.user.role == auth_pb2.ROLE_ADMIN

    def client(self) -> Gathering:
        """Return a client at the edge."""
        return Gathering(self.url, Held(self))


def logged_in(mesh: LocalMesh, email: str, password: str) -> Tenant:
    """Log in by e-mail and password."""

    async def log_in() -> auth_service_pb2.Tokens:
        address = f"127.0.0.1:{mesh.port}"
        async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
            return await Login(email, password).tokens(AuthServiceStub(channel))

    return Tenant(mesh.url, email, password, asyncio.run(log_in()))


def new_tenants(mesh: LocalMesh, *emails: str) -> list[Tenant]:
    """Make a tenant for each address as the operator's command does, but in this process."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in mesh.environment_of("gateway").items():
            patch.setenv(name, value)
        settings = GatewaySettings()
    for email in emails:
        asyncio.run(create_tenant(settings, email.partition("@")[2], email, PASSWORD))
    return [logged_in(mesh, email, PASSWORD) for email in emails]


async def new_user(mesh: LocalMesh, tenant: Tenant, role: auth_pb2.Role.ValueType) -> Tenant:
    """Make a user of the tenant and log in."""
    email = f"{uuid.uuid4().hex}@roles.example"
    new = auth_service_pb2.CreateUserRequest(email=email, password=PASSWORD, role=role)
    async with tenant.client() as client:
        await client.auth.CreateUser(new)
    return await asyncio.to_thread(logged_in, mesh, email, PASSWORD)
