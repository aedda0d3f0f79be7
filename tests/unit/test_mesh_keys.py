"""Signing keys and the sets that tokens are verified with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gathering_mesh.keys import (
    KeySet,
    RefreshingKeys,
    SigningKey,
    actor_keys_in,
    read_actors,
    read_jwks,
)
from tests.support.probe import Authority


def test_key_survives_its_file() -> None:
    key = SigningKey.generate()
    assert SigningKey.from_pem(key.pem()).public_jwk == key.public_jwk


def test_key_of_another_curve_is_refused() -> None:
    other = ec.generate_private_key(ec.SECP384R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with pytest.raises(ValueError, match="P-256"):
        SigningKey.from_pem(other)


@pytest.mark.parametrize("document", [[], {}, {"keys": 1}, "x", None])
def test_document_that_is_no_jwks_is_refused(document: Any) -> None:
    with pytest.raises(ValueError, match="JWKS"):
        read_jwks(document)


def test_keys_of_other_kinds_are_left_out() -> None:
    key = SigningKey.generate().public_jwk
    others: list[Any] = [{"kty": "RSA", "kid": "r", "n": "AQ", "e": "AQ"}, {**key, "kid": ""}, 5]
    assert set(read_jwks({"keys": [*others, key]})) == {key["kid"]}


class Loader:
    """Counts loads of keys that a test changes."""

    def __init__(self) -> None:
        self.key = SigningKey.generate()
        self.loads = 0
        self.broken = False

    async def __call__(self) -> KeySet:
        self.loads += 1
        await asyncio.sleep(0)
        if self.broken:
            raise OSError("no answer")
        return read_jwks({"keys": [self.key.public_jwk]})


async def test_unknown_key_id_loads_at_most_once_per_interval() -> None:
    loader = Loader()
    keys = RefreshingKeys(loader, minimum_interval=60)
    assert await keys.find(loader.key.kid)
    for number in range(100):
        assert await keys.find(f"forged-{number}") is None
    assert loader.loads == 1


async def test_callers_at_once_share_one_load() -> None:
    loader = Loader()
    keys = RefreshingKeys(loader, minimum_interval=60)
    found = await asyncio.gather(*(keys.find(loader.key.kid) for _ in range(50)))
    assert all(found)
    assert loader.loads == 1


async def test_failed_load_keeps_the_known_keys() -> None:
    loader = Loader()
    keys = RefreshingKeys(loader, refresh_seconds=0, minimum_interval=0)
    assert await keys.find(loader.key.kid)
    loader.broken = True
    assert await keys.find(loader.key.kid)
    assert loader.loads == 2


async def test_actors_are_read_from_a_file_again_when_a_key_is_unknown(tmp_path: Path) -> None:
    authority = Authority()
    path = tmp_path / "actors.json"
    path.write_text(json.dumps(authority.actors_document()))
    keys = actor_keys_in(path, minimum_interval=0)
    assert await keys.find(f"agent/{authority.actors['agent'].kid}")
    authority.actors["agent"] = SigningKey.generate()
    path.write_text(json.dumps(authority.actors_document()))
    assert await keys.find(f"agent/{authority.actors['agent'].kid}")


def test_actors_document_needs_a_key_set_per_service() -> None:
    bad: list[Mapping[str, Any] | list[Any]] = [[], {"agent": 1}, {"agent": {"keys": 2}}]
    for document in bad:
        with pytest.raises(ValueError, match="not a"):
            read_actors(document)
