"""A limit on the calls that all replicas have in flight with one provider.

Calls stand in one line in the database, where an operator has set a limit; those among the first
are made, the others wait. A replica that is killed keeps its places for a lease; one that is cut
off from the database for longer makes the calls that it has begun beyond the limit.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gathering_agent.errors import ModelUnavailable
from gathering_agent.providers.ports import PlaceRows
from gathering_mesh.errors import DomainError
from gathering_mesh.loops import forever
from gathering_mesh.nudge import Nudge
from gathering_mesh.postgres import Database

_log = logging.getLogger(__name__)
_LOOK = 0.1  # seconds between looks at the line while a call of this process waits
_IDLE = 5.0


@dataclass(eq=False, slots=True)
class _Place:
    """A call in a line; `lost`: it has to stand in line anew."""

    provider: str
    number: int
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    lost: bool = False


class Places:
    """The places of this process; `limits` of calls at once, by provider."""

    def __init__(
        self, db: Database, rows: PlaceRows, limits: Mapping[str, int], lease: float
    ) -> None:
        self._db = db
        self._rows = rows
        self._limits = limits
        self._lease = lease
        self._owner = uuid.uuid4().hex
        self._places: dict[int, _Place] = {}
        self._waiting = Nudge()

    async def run(self) -> None:
        """Look at the lines and keep the places, until cancelled."""
        if not self._limits:
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(forever("look at lines", self._look))
            tasks.create_task(forever("keep places", self._keep))

    @asynccontextmanager
    async def hold(self, provider: str, wait: float) -> AsyncIterator[None]:
        """Hold a place for one call; waits `wait` seconds at most, then raises ModelUnavailable."""
        if provider not in self._limits:
            yield
            return
        place = await self._enter(provider, wait)
        try:
            yield
        finally:
            await self._leave(place)

    async def _enter(self, provider: str, wait: float) -> _Place:
        try:
            async with asyncio.timeout(wait):
                while True:
                    place = await self._stand(provider)
                    if not place.lost:
                        return place
        except TimeoutError as error:
            limit = self._limits[provider]
            raise ModelUnavailable(
                f"{provider} has {limit} calls in flight, which is its limit"
            ) from error

    async def _stand(self, provider: str) -> _Place:
        """Stand in line until it is this call's turn, or its place is lost."""
        async with self._db.system() as tx:
            number = await self._rows.enter(tx, provider, self._owner, self._lease)
            first = await self._rows.first(tx, provider, self._owner, self._limits[provider])
        # Known only once it is stored: a row whose commit was not heard of ends with its lease.
        place = self._places[number] = _Place(provider, number)
        try:
            if number not in first:
                self._waiting.give()
                await place.settled.wait()
        except BaseException:
            await self._leave(place)
            raise
        place.settled.set()
        return place

    async def _leave(self, place: _Place) -> None:
        """Make room; where the database is away the place ends with its lease."""
        del self._places[place.number]
        try:
            async with self._db.system() as tx:
                await self._rows.leave(tx, place.number)
        except DomainError as error:
            _log.warning("a place at %s ends by itself: %r", place.provider, error)
        self._waiting.give()

    async def _look(self) -> None:
        waiting = {one.provider for one in self._places.values() if not one.settled.is_set()}
        for provider in waiting:
            async with self._db.system() as tx:
                first = await self._rows.first(tx, provider, self._owner, self._limits[provider])
            for number in first:
                if number in self._places:
                    self._places[number].settled.set()
        await self._waiting.wait(_LOOK if waiting else _IDLE)

    async def _keep(self) -> None:
        await asyncio.sleep(self._lease / 3)
        asked = dict(self._places)
        if not asked:
            return
        async with self._db.system() as tx:
            kept = await self._rows.renew(tx, self._owner, list(asked), self._lease)
        for number in asked.keys() - set(kept):
            place = asked[number]
            place.lost = not place.settled.is_set()
            place.settled.set()
