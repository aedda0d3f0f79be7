"""What every service opens from its settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gathering_mesh.keys import keys_of, read_jwks
from gathering_mesh.settings import ServiceSettings
from gathering_mesh.wiring import SettingsError, open_mesh
from tests.support.probe import Authority, Probe, contract, headers, message, request


def settings_of(authority: Authority, folder: Path) -> ServiceSettings:
    """Write the files of the service agent and return settings that name them."""
    key, actors = folder / "agent.pem", folder / "actors.json"
    key.write_bytes(authority.actors["agent"].pem())
    actors.write_text(json.dumps(authority.actors_document()))
    return ServiceSettings(service="agent", actor_key_file=key, actors_file=actors)


async def test_mesh_opened_from_settings_serves_and_calls(tmp_path: Path) -> None:
    authority = Authority()
    settings = settings_of(authority, tmp_path)
    users = keys_of(lambda: read_jwks(authority.jwks()))
    async with open_mesh(settings, users=users) as mesh:
        mesh.server.add(contract().services_by_name["ProbeService"], Probe())
        await mesh.server.start()
        address = f"127.0.0.1:{mesh.server.port}"
        itself = settings.model_copy(update={"peers": {"probe": address}})
        async with open_mesh(itself, users=users) as caller:
            echo = caller.channels.to("probe").unary_unary(
                "/tests.probe.v1.ProbeService/ByAgent",
                request_serializer=message("EchoRequest").SerializeToString,
                response_deserializer=message("EchoResponse").FromString,
            )
            user = headers(user=authority.user())
            own = caller.channels.outgoing_as_actor()
            answer = await echo(
                request(), metadata=(*own["metadata"], *user), timeout=own["timeout"]
            )
            assert answer.text == "hello"
        await mesh.server.stop(0.1)


@pytest.mark.parametrize("missing", ["actor_key_file", "actors_file"])
async def test_missing_setting_is_named_as_the_environment_names_it(
    missing: str, tmp_path: Path
) -> None:
    settings = settings_of(Authority(), tmp_path).model_copy(update={missing: None})
    with pytest.raises(SettingsError, match=f"GATHERING_{missing.upper()}"):
        async with open_mesh(settings):
            pass


async def test_missing_address_of_users_keys_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="GATHERING_USER_JWKS_URL"):
        async with open_mesh(settings_of(Authority(), tmp_path)):
            pass
