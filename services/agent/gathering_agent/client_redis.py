"""Redis, as `ports.DeltaWire`: one capped stream per turn, which ends by itself.

An entry names step, attempt (fence and try) and the place of its text in bytes. A reader holds one
connection for all the turns that it follows; a stream of its own lets it be woken. What readers
follow stands in one stream of all replicas.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gathering_agent.ports import Received
from gathering_agent.streams.models import Activity, Doing, Output, Piece, generation_order
from gathering_mesh.errors import Unavailable
from gathering_mesh.ids import new_id

_KEY = "gathering:agent:deltas:"
_WAKE = "gathering:agent:wake:"
_WANTED = "gathering:agent:wanted"
_WANTS = 1000  # kept of what replicas want
_ENTRIES = 400  # kept at least, per turn
_LIFE = 120  # seconds after the last piece
_LIFE_OF_WANTS = 20  # seconds
_PAGE = 100  # entries per turn and read
_SECONDS = 0.5  # for a connection, and for a command


class RedisWire:
    """Sends and receives pieces of text; loses what Redis loses."""

    def __init__(self, url: str) -> None:
        self._writer = _client(url, _SECONDS)
        self._reader = _client(url, None)  # its waits are bounded where they are asked for
        self._replica = new_id("rep")
        self._wake = f"{_WAKE}{self._replica}"
        self._woken = "0"
        self._heard = "0"

    async def aclose(self) -> None:
        """Release connections."""
        await self._writer.aclose()
        await self._reader.aclose()

    async def send(
        self, pieces: Sequence[Piece], told: Sequence[tuple[str, Activity | Output]] = ()
    ) -> None:
        """Append pieces, and what tools are doing and tell, to the streams of their turns."""
        entries = [(piece.turn_id, _fields(piece)) for piece in pieces]
        entries += [(turn_id, _told_fields(one)) for turn_id, one in told]
        async with _bounded(2 * _SECONDS), self._writer.pipeline(transaction=False) as pipe:
            for turn_id, fields in entries:
                key = _KEY + turn_id
                pipe.xadd(key, fields, maxlen=_ENTRIES, approximate=True)
                pipe.expire(key, _LIFE)
            await pipe.execute()

    async def receive(self, after: Mapping[str, str], seconds: float) -> Sequence[Received]:
        """Wait for pieces of turns behind positions."""
        streams: dict[Any, Any] = {_KEY + turn: place or "0" for turn, place in after.items()}
        streams[self._wake] = self._woken
        async with _bounded(seconds + 2 * _SECONDS):
            answer: Any = await self._reader.xread(
                streams, count=_PAGE, block=round(seconds * 1000)
            )
        found: list[Received] = []
        for key, entries in answer:
            name = key.decode()
            if name == self._wake:
                self._woken = entries[-1][0].decode()
            else:
                turn = name.removeprefix(_KEY)
                found += [_received(turn, at.decode(), of) for at, of in entries]
        return found

    async def wake(self) -> None:
        """End the wait of `receive` at once."""
        async with _bounded(2 * _SECONDS), self._writer.pipeline(transaction=False) as pipe:
            pipe.xadd(self._wake, {"w": b""}, maxlen=1, approximate=False)
            pipe.expire(self._wake, _LIFE)
            await pipe.execute()

    async def want(self, turn_ids: Collection[str]) -> None:
        """Tell all replicas that these turns are watched here."""
        async with _bounded(2 * _SECONDS), self._writer.pipeline(transaction=False) as pipe:
            wants: dict[Any, Any] = {"t": " ".join(turn_ids), "r": self._replica}
            pipe.xadd(_WANTED, wants, maxlen=_WANTS, approximate=True)
            pipe.expire(_WANTED, _LIFE_OF_WANTS)
            await pipe.execute()

    async def wanted(self, seconds: float) -> Sequence[str]:
        """Wait for what other replicas want; at first that of the last seconds."""
        async with _bounded(seconds + 2 * _SECONDS):
            answer: Any = await self._reader.xread(
                {_WANTED: self._heard}, count=_PAGE, block=round(seconds * 1000)
            )
        entries = [entry for _, found in answer for entry in found]
        if entries:
            self._heard = entries[-1][0].decode()
        others = [of for _, of in entries if of.get(b"r") != self._replica.encode()]
        return [turn for of in others for turn in of.get(b"t", b"").decode().split()]


def _client(url: str, timeout: float | None) -> Redis:
    """Return a client that never tries again by itself."""
    return Redis.from_url(
        url,
        socket_timeout=timeout,
        socket_connect_timeout=_SECONDS,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        max_connections=2,
    )


@asynccontextmanager
async def _bounded(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except (RedisError, OSError, TimeoutError) as error:
        raise Unavailable(f"Redis: {type(error).__name__}: {error}") from error


def _fields(piece: Piece) -> dict[Any, Any]:
    return {"s": piece.step, "g": piece.generation, "o": piece.offset, "t": piece.text}


def _told_fields(told: Activity | Output) -> dict[Any, Any]:
    if isinstance(told, Activity):
        return {"a": json.dumps(asdict(told))}
    of = {**asdict(told), "text": ""}
    return {"p": json.dumps(of), "t": told.text}


def _received(turn_id: str, position: str, fields: Mapping[bytes, bytes]) -> Received:
    if b"a" in fields:
        return Received(turn_id, position, told=_activity(fields[b"a"]))
    if b"p" in fields:
        return Received(turn_id, position, told=_output(fields))
    return Received(turn_id, position, _read(turn_id, fields))


def _activity(written: bytes) -> Activity | None:
    try:
        found = json.loads(written)
        return Activity(**{**found, "doing": Doing(found["doing"])})
    except (ValueError, KeyError, TypeError):
        return None


def _output(fields: Mapping[bytes, bytes]) -> Output | None:
    try:
        return Output(**{**json.loads(fields[b"p"]), "text": fields[b"t"]})
    except (ValueError, KeyError, TypeError):
        return None


def _read(turn_id: str, fields: Mapping[bytes, bytes]) -> Piece | None:
    """Return an entry's piece; None for what others wrote under the name of a turn."""
    try:
        step, generation = int(fields[b"s"]), fields[b"g"].decode()
        generation_order(step, generation)
        return Piece(turn_id, step, generation, int(fields[b"o"]), fields[b"t"])
    except (KeyError, ValueError):
        return None
