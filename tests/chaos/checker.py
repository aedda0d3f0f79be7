"""The checker: reads logs and tables, nothing else, and names each invariant that does not hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import asyncpg

from tests.chaos import invariants_mesh, invariants_services
from tests.chaos.world import Effect, World, read
from tests.support.waiting import eventually

Invariant = Callable[[World], Iterator[str]]
ALWAYS: tuple[Invariant, ...] = (*invariants_mesh.ALWAYS, *invariants_services.ALWAYS)
QUIET: tuple[Invariant, ...] = (*invariants_mesh.QUIET, *invariants_services.QUIET)
_SHOWN = 8  # contradictions of one invariant
_AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that does not hold, and where."""

    invariant: str
    found: Sequence[str]

    def __str__(self) -> str:
        """Say it for people."""
        more = len(self.found) - _SHOWN
        lines = [f"  {one}" for one in self.found[:_SHOWN]]
        return "\n".join([self.invariant, *lines, *([f"  and {more} more"] if more > 0 else [])])


def check(world: World, invariants: Sequence[Invariant]) -> list[Violation]:
    """Return the invariants that a world contradicts."""
    found = [(invariant.__name__, list(invariant(world))) for invariant in invariants]
    return [Violation(name, against) for name, against in found if against]


async def expect(dsn: str, effects: Sequence[Effect] = ()) -> World:
    """Read a mesh that runs; AssertionError names what does not hold."""
    world = await read(dsn, effects)
    _raise(check(world, ALWAYS))
    return world


async def expect_quiet(
    dsn: str, effects: Callable[[], Sequence[Effect]] = tuple, seconds: float = 120.0
) -> World:
    """Wait until nothing moves any more, then check everything."""
    worlds: list[World] = []

    async def is_quiet() -> bool:
        try:
            worlds[:] = [await read(dsn, effects())]
        except _AWAY:
            return False
        return not check(worlds[0], QUIET)

    try:
        await eventually(is_quiet, "all has ended", seconds)
    except AssertionError:
        _raise(check(await read(dsn, effects()), (*ALWAYS, *QUIET)))
    _raise(check(worlds[0], ALWAYS))
    return worlds[0]


def _raise(violations: Sequence[Violation]) -> None:
    assert not violations, "\n".join(["the mesh does not hold:", *map(str, violations)])
