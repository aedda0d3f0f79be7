"""Encryption at the edge: every door, and certificates that change while it runs."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509

from gathering.gateway.v1 import auth_service_pb2 as pb
from gathering.gateway.v1.auth_service_pb2_grpc import AuthServiceStub
from tests.support.certificates import certificate
from tests.support.edge import Edge, log_in, running_edge
from tests.support.fixtures import NewDatabase
from tests.support.gateway import PASSWORD, Gateway, running_gateway
from tests.support.waiting import eventually
from tests.support.websockets import opened


@pytest.fixture
async def gateway(new_database: NewDatabase, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway."""
    async with running_gateway(await new_database("gateway"), tmp_path) as running:
        yield running


async def test_every_door_is_open_by_tls_and_a_new_certificate_is_taken(
    gateway: Gateway, tmp_path: Path
) -> None:
    folder = tmp_path / "certificates"
    folder.mkdir()
    old = certificate(folder)
    given = {"tls_certificate": old.chain, "tls_key": old.key}
    async with running_edge(gateway, tmp_path, **given) as edge:
        header, tokens = await log_in(edge, gateway)
        assert (await edge.http.get("/v1/me", headers=header)).is_success
        auth: Any = AuthServiceStub(edge.channel)
        request = pb.LoginRequest(email=await gateway.tenant(), password=PASSWORD)
        assert (await auth.Login(request, timeout=20)).access_token
        await subscribed(edge, old.chain, tokens["access_token"])
        assert await shaken(edge, old.chain, "h2") == ("h2", old.serial)
        assert await shaken(edge, old.chain, "http/1.1") == ("http/1.1", old.serial)
        new = certificate(folder)

        async def renewed() -> bool:
            return (await shaken(edge, new.chain, "h2", verify=False))[1] == new.serial

        await eventually(renewed, "the new certificate")


async def subscribed(edge: Edge, trusted: Path, token: str) -> None:
    """Subscribe by an encrypted WebSocket, the token in each place that it may have."""
    address = edge.url.removeprefix("https://")
    context = ssl.create_default_context(cafile=trusted)
    ways: list[dict[str, Any]] = [
        {"token": token},
        {"token": "", "query": f"?access_token={token}"},
        {"token": "", "subprotocols": ["gathering.v1", f"bearer.{token}"]},
    ]
    for way in ways:
        async with opened(address, ssl=context, **way) as client:
            await client.send({"id": "1", "subscribe": {}})
            assert "message" in await client.answer("1")


async def shaken(
    edge: Edge, trusted: Path, protocol: str, *, verify: bool = True
) -> tuple[str | None, int]:
    """Return the protocol that a TLS handshake agrees on, and the certificate's serial number."""
    context = ssl.create_default_context(cafile=trusted)
    context.set_alpn_protocols([protocol])
    if not verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    url = httpx.URL(edge.url)
    _, writer = await asyncio.open_connection(url.host, url.port, ssl=context)
    try:
        connection = writer.get_extra_info("ssl_object")
        chosen, encoded = connection.selected_alpn_protocol(), connection.getpeercert(True)
    finally:
        writer.close()
    return chosen, _serial(encoded)


def _serial(encoded: bytes) -> int:
    return x509.load_der_x509_certificate(encoded).serial_number
