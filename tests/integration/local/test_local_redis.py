"""Redis of a local mesh: closed to strangers, bounded, forgetful, and never necessary."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis as Client
from redis.exceptions import AuthenticationError

from gathering_local.addresses import free_port
from gathering_local.home import Home
from gathering_local.parts import CommandPart
from gathering_local.redis import Redis, redis_of


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Return an empty home."""
    return Home(tmp_path / "home of a mesh")


@pytest.fixture
async def redis(home: Home, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Redis]:
    """Return a running Redis."""
    monkeypatch.delenv("REDIS_URL", raising=False)
    made = redis_of(home, free_port(), wanted=True)
    assert made.part is not None
    await begin(made.part)
    yield made
    await made.part.stop()


async def begin(part: CommandPart) -> None:
    """Start it and wait until it answers."""
    await part.start()
    await part.ready()


async def test_redis_takes_streams_from_who_has_the_password_alone(redis: Redis) -> None:
    assert redis.part is not None
    async with Client.from_url(redis.url) as client:
        await client.xadd("deltas", {"text": "Hello"}, maxlen=10)
        assert await client.xlen("deltas") == 1
    host, _, port = redis.part.address.partition(":")
    async with Client(host=host, port=int(port)) as stranger:
        with pytest.raises(AuthenticationError):
            await stranger.xlen("deltas")
    assert redis.url.split(":")[2].split("@")[0] not in " ".join(redis.part.command)


async def test_redis_is_bounded_and_comes_back_empty(redis: Redis, home: Home) -> None:
    assert redis.part is not None
    async with Client.from_url(redis.url) as client:
        settings = await client.config_get("maxmemory*")
        assert settings["maxmemory-policy"] == "allkeys-lru"
        assert settings["maxmemory"] == str(64 * 1024 * 1024)
        await client.set("key", "value")
    await redis.part.stop()
    await begin(redis.part)
    async with Client.from_url(redis.url) as client:
        assert await client.get("key") is None
    assert not list(home.run.glob("*.rdb"))


def test_another_redis_or_none_takes_its_place(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere:6379/1")
    assert redis_of(home, 1, wanted=True) == Redis("redis://elsewhere:6379/1")
    assert redis_of(home, 1, wanted=False) == Redis()
