"""Secrets stay secret: none that was used is found in a log, an event, the audit or an error."""

from __future__ import annotations

import re
import uuid

import grpc
import httpx

from gathering.agent.v1 import model_service_pb2
from gathering.gateway.v1 import (
    audit_service_pb2,
    auth_pb2,
    auth_service_pb2,
    event_service_pb2,
    invitation_service_pb2,
)
from gathering.gateway.v1.auth_service_pb2_grpc import AuthServiceStub
from gathering.gateway.v1.invitation_service_pb2_grpc import InvitationServiceStub
from gathering_client import Gathering
from gathering_client.errors import GatheringError
from tests.e2e.makers import Maker
from tests.e2e.mesh import SERVICES, LocalMesh

TOKEN = re.compile(r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}")


def canary(what: str) -> str:
    """Return a secret that is like no other."""
    return f"{what}-{uuid.uuid4().hex}"


async def refused(call: object) -> str:
    """Return what a refusal says."""
    try:
        await call  # type: ignore[misc]
    except grpc.aio.AioRpcError as error:
        return f"{error.details()} {error.trailing_metadata()}"
    except GatheringError as error:
        return f"{error} {error.fields} {error.metadata}"
    raise AssertionError("it was let in")


async def test_used_secrets_are_found_nowhere(
    mesh: LocalMesh, client: Gathering, edge: grpc.aio.Channel
) -> None:
    auth, door = AuthServiceStub(edge), InvitationServiceStub(edge)
    email, password = f"{uuid.uuid4().hex}@secrets.example", canary("password")
    invited = await client.invitations.CreateInvitation(
        invitation_service_pb2.CreateInvitationRequest(email=email, role=auth_pb2.ROLE_MEMBER)
    )
    accept = invitation_service_pb2.AcceptInvitationRequest(
        secret=invited.secret, password=password
    )
    await door.AcceptInvitation(accept)
    tokens = await auth.Login(auth_service_pb2.LoginRequest(email=email, password=password))
    renew = auth_service_pb2.RefreshRequest(refresh_token=tokens.refresh_token)
    renewed = await auth.Refresh(renew)
    key = await client.auth.CreateApiKey(auth_service_pb2.CreateApiKeyRequest(display_name="k"))
    exchange = auth_service_pb2.ExchangeApiKeyRequest(api_key=key.secret)
    by_key = await auth.ExchangeApiKey(exchange)
    revoked = auth_service_pb2.RevokeApiKeyRequest(api_key_id=key.api_key.api_key_id)
    await client.auth.RevokeApiKey(revoked)

    provider_key = canary("sk-provider")
    put = model_service_pb2.SetProviderKeyRequest(provider="anthropic", key=provider_key)
    kept = await client.models.SetProviderKey(put)
    listed = await client.models.ListProviderKeys(model_service_pb2.ListProviderKeysRequest())
    gone = model_service_pb2.DeleteProviderKeyRequest(provider_key_id=kept.provider_key_id)

    wrong = canary("wrong")
    attempt = auth_service_pb2.LoginRequest(email=email, password=wrong)
    errors = [
        await refused(call)
        for call in (
            door.AcceptInvitation(accept),
            auth.Login(attempt),
            auth.Refresh(renew),
            auth.ExchangeApiKey(exchange),
            auth.ExchangeApiKey(auth_service_pb2.ExchangeApiKeyRequest(api_key=wrong)),
            client.models.SetProviderKey(
                model_service_pb2.SetProviderKeyRequest(provider="nobody", key=provider_key)
            ),
            client.models.SetProviderKey(
                model_service_pb2.SetProviderKeyRequest(provider="openai", key=f" {provider_key}")
            ),
        )
    ]
    async with httpx.AsyncClient(base_url=mesh.url, trust_env=False) as http:
        for path in ("/ws", "/v1/me"):
            query = {"access_token": tokens.access_token}
            errors.append((await http.get(path, params=query)).text)

    await client.models.DeleteProviderKey(gone)
    events = await client.events.ListEvents(event_service_pb2.ListEventsRequest(page_size=200))
    entries = await client.audit.ListAuditEntries(
        audit_service_pb2.ListAuditEntriesRequest(page_size=200)
    )
    secrets = {
        "password": password, "wrong": wrong, "invitation": invited.secret, "key": key.secret,
        "refresh": tokens.refresh_token, "next refresh": renewed.refresh_token,
        "access": tokens.access_token, "by key": by_key.access_token, "provider": provider_key,
    }  # fmt: skip
    places = {f"error {index}": text for index, text in enumerate(errors)}
    places |= {"events": str(events), "audit": str(entries), "keys": f"{kept} {listed}"}
    places |= logs(mesh)
    assert [
        (what, where) for what in secrets for where in places if secrets[what] in places[where]
    ] == []


def logs(mesh: LocalMesh) -> dict[str, str]:
    """Return the logs of all parts, by the names of their files."""
    files = [mesh.home.postgres / "postgres.log", *mesh.home.logs.iterdir()]
    found = {file.name: file.read_text(errors="replace") for file in files}
    assert sum(map(bool, found.values())) > len(SERVICES), "there are no logs to look at"
    return found


async def test_no_log_has_a_token_or_one_of_the_meshs_own_secrets(
    mesh: LocalMesh, maker: Maker
) -> None:
    """A turn goes through all services, with tokens of users, of services and of delegations."""
    await maker.turn()
    own = {file.name: file.read_text().strip() for file in (mesh.folder / "secrets").iterdir()}
    own["superuser"] = (mesh.home.postgres / "superuser.password").read_text().strip()
    keys = {file.name: file.read_text().splitlines()[1] for file in mesh.home.keys.rglob("*.pem")}
    assert min(map(len, (own | keys).values())) >= 32
    for where, text in logs(mesh).items():
        assert not TOKEN.search(text), where
        assert not [what for what, secret in (own | keys).items() if secret in text], where
