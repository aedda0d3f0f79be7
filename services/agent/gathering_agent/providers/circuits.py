"""Circuit breakers that replicas share: who keeps failing is left alone by all of them.

What is known is kept in the process and read again every second, so that a call that is answered
costs nothing here. Failures are written when they happen; of the calls that want to try an open
circuit again, the database lets one through.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import cast

from gathering_agent.errors import ModelFailed, ModelNotConfigured, ModelRefused, ModelUnavailable
from gathering_agent.ports import ModelProvider
from gathering_agent.providers.models_circuits import Circuit, CircuitTerms
from gathering_agent.providers.models_dialogue import ModelEvent, ModelRequest
from gathering_agent.providers.ports import CircuitRows
from gathering_mesh.errors import DomainError
from gathering_mesh.loops import forever
from gathering_mesh.postgres import Database
from gathering_mesh.statements import Statements

_log = logging.getLogger(__name__)
_REFRESH = 1.0  # seconds
_LOOK = 0.1  # seconds between looks at what this process knows, of a call that waits
_LONGEST_WRITE = 2.0  # seconds; a note is not worth more


class Circuits:
    """What this process knows of the circuits."""

    def __init__(self, db: Database, rows: CircuitRows, terms: CircuitTerms) -> None:
        self._db = db
        self._rows = rows
        self._terms = terms
        self._known: dict[str, Circuit] = {}

    async def run(self) -> None:
        """Follow what other replicas find, until cancelled."""
        await forever("read circuits", self._follow)

    async def _follow(self) -> None:
        await self._refresh()
        await asyncio.sleep(_REFRESH)

    async def _refresh(self) -> None:
        async with self._db.system() as tx:
            found = await self._rows.all(tx)
        self._known = {one.name: one for one in found}

    def known(self, name: str) -> Circuit:
        """Return a circuit as this process knows it."""
        return self._known.get(name) or Circuit(name)

    def check(self, names: Sequence[str]) -> None:
        """Raise ModelUnavailable where a call would not be let through now."""
        now = time.monotonic()
        for circuit in map(self.known, names):
            if (left := circuit.blocked(now)) > 0:
                raise _held_back(circuit, left)

    @asynccontextmanager
    async def guard(
        self, names: Sequence[str], provider: ModelProvider, wait: float
    ) -> AsyncIterator[ModelProvider]:
        """Yield the provider for one call that the circuits let through, and learn from its end.

        The last name is that of what answers; those before are of what cannot even be reached.
        Waits `wait` seconds at most for an open one; raises ModelUnavailable.
        """
        probing = await self._enter(names, wait)
        try:
            yield _Trial(provider, lambda: self._alive(probing)) if probing else provider
        except ModelFailed as error:
            if error.hasty:
                await self._give_back(probing)
            else:
                await self._failed(names[0] if error.unsent else names[-1], error)
            raise
        except (ModelRefused, ModelNotConfigured):  # it answers, and that is all that matters here
            await self._alive(probing)
            raise
        except BaseException:
            await self._give_back(probing)
            raise
        failing = [name for name in names if self.known(name).failures]
        if failing:
            await self._write(lambda tx: self._rows.answered(tx, failing))

    async def _enter(self, names: Sequence[str], wait: float) -> list[str]:
        """Return the circuits for which this call tries, none where all are closed."""
        give_up = time.monotonic() + wait
        while any(self.known(name).open for name in names):
            try:
                self.check(names)
                opened = [name for name in names if self.known(name).open]
                if await self._may_try(opened):
                    return opened
                await self._refresh()
                self.check(names)
            except ModelUnavailable:
                if time.monotonic() >= give_up:
                    raise
            await asyncio.sleep(_LOOK)
        return []

    async def _may_try(self, names: list[str]) -> bool:
        async with self._db.system() as tx:
            got = await self._rows.probe(tx, names, self._terms.probe)
            if 0 < len(got) < len(names):
                await self._rows.give_back(tx, got)
        return len(got) == len(names)

    async def _alive(self, probing: list[str]) -> None:
        """Let all calls through again; the next failure is enough to open it anew."""
        if probing:
            failures = self._terms.failures - 1
            await self._write(lambda tx: self._rows.alive(tx, probing, failures))

    async def _give_back(self, probing: list[str]) -> None:
        """Let another call try."""
        if probing:
            await self._write(lambda tx: self._rows.give_back(tx, probing))

    async def _failed(self, name: str, error: ModelFailed) -> None:
        terms = self._terms
        seconds = max(terms.open, min(error.retry_after or 0.0, terms.longest))
        await self._write(lambda tx: self._rows.failed(tx, name, error.reason, terms, seconds))

    async def _write(self, write: Callable[[Statements], Awaitable[None]]) -> None:
        """Write and read again; a database that is away changes no call."""
        try:
            async with asyncio.timeout(_LONGEST_WRITE):
                async with self._db.system() as tx:
                    await write(tx)
                await self._refresh()
        except (DomainError, TimeoutError) as error:
            _log.warning("not noted of a circuit: %r", error)


class _Trial:
    """A provider whose first word closes a circuit."""

    def __init__(self, provider: ModelProvider, alive: Callable[[], Awaitable[None]]) -> None:
        self._provider = provider
        self._alive = alive

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """See `ModelProvider.stream`."""
        events = cast("AsyncGenerator[ModelEvent, None]", self._provider.stream(request))
        first = True
        async with aclosing(events):
            async for event in events:
                if first:
                    await self._alive()
                    first = False
                yield event

    async def aclose(self) -> None:
        """Leave the provider to whose it is."""


def _held_back(circuit: Circuit, seconds: float) -> ModelUnavailable:
    what = circuit.name.partition(" ")[0]  # without the tenant whose key it is of
    return ModelUnavailable(
        f"{what} failed {circuit.failures} times in a row and is left alone for {seconds:.0f} s",
        retry_after=seconds,
    )
