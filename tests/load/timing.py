"""Time work and the CPU that processes spend on it, several sides in turns."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

_LONGEST_SECONDS = 90.0  # after which no further round begins
_SCHEDULER_CLOCK = 2  # CPUCLOCK_SCHED of Linux: all threads of a process, in nanoseconds


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU time that these processes have had; one that has ended counts nothing."""
    total = 0.0
    for pid in pids:
        with suppress(OSError):
            total += time.clock_gettime((~pid << 3) | _SCHEDULER_CLOCK)
    return total


@dataclass
class Sample:
    """One round: how long each piece of work took (seconds), and the whole."""

    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class Side:
    """One way to do the work; the CPU of `pids` counts as its own.

    A function is asked when a round begins: a database has a process for each connection.
    """

    run: Callable[[], Awaitable[Sample]]
    pids: Sequence[int] | Callable[[], Sequence[int]] = ()


@dataclass(frozen=True)
class Figure:
    """Medians over the rounds: milliseconds, pieces a second, microseconds of CPU a piece."""

    p50: float
    p99: float
    rate: float
    cpu: float


async def compare(sides: Mapping[str, Side], rounds: int) -> dict[str, Figure]:
    """Run the sides in turns, after one round for warming up, and return what each took.

    On a machine that is slow or that others use there are fewer rounds, but at least one.
    """
    begun = time.monotonic()
    for side in sides.values():
        await side.run()
    found: dict[str, list[Figure]] = {name: [] for name in sides}
    for number in range(rounds):
        if number and time.monotonic() - begun > _LONGEST_SECONDS:
            break
        order = list(sides) if number % 2 else list(sides)[::-1]
        for name in order:
            found[name].append(await _round(sides[name]))
    return {name: _median(figures) for name, figures in found.items()}


async def _round(side: Side) -> Figure:
    pids = side.pids() if callable(side.pids) else side.pids
    before = cpu_seconds(pids)
    sample = await side.run()
    spent = cpu_seconds(pids) - before
    count = len(sample.latencies)
    return Figure(
        quantile(sample.latencies, 0.5) * 1000,
        quantile(sample.latencies, 0.99) * 1000,
        count / sample.seconds,
        spent / count * 1e6,
    )


def _median(figures: Sequence[Figure]) -> Figure:
    columns = zip(*((f.p50, f.p99, f.rate, f.cpu) for f in figures), strict=True)
    return Figure(*map(statistics.median, columns))


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def closed_loop(
    work: Callable[[int], Awaitable[object]], count: int, at_once: int = 1
) -> Sample:
    """Do `count` pieces of work, `at_once` at a time; each is told which of these it is."""
    sample = Sample()
    left = iter(range(count))

    async def worker(place: int) -> None:
        for _ in left:
            begun = time.perf_counter()
            await work(place)
            sample.latencies.append(time.perf_counter() - begun)

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for place in range(at_once):
            tasks.create_task(worker(place))
    sample.seconds = time.perf_counter() - begun
    return sample


def loop(
    work: Callable[[int], Awaitable[object]], count: int, at_once: int = 1
) -> Callable[[], Awaitable[Sample]]:
    """Return `closed_loop` with these arguments, as a side has it."""

    async def run() -> Sample:
        return await closed_loop(work, count, at_once)

    return run
