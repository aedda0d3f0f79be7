"""The claim loop: take work that is due, keep its lease while it runs, give it back when it fails.

A lease that ran out is not lost: its holder renews it late, as long as nobody took the row. And
nobody takes over before its own heartbeat has been healthy for a whole lease, so that the first
replica back after an outage of the database leaves the others the time to renew.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from gathering_mesh import faults, work_rows
from gathering_mesh.errors import DomainError
from gathering_mesh.lease import HandOver, Lease, LeaseLost
from gathering_mesh.loops import backoff, forever, report
from gathering_mesh.postgres import Database, Transaction
from gathering_mesh.postgres_errors import DatabaseUnavailable
from gathering_mesh.statements import Row, Statements

__all__ = ["HandOver", "Handler", "Lease", "LeaseLost", "Taken", "WorkLoop", "WorkSettings"]

Handler = Callable[[Lease], Awaitable[None]]
_log = structlog.get_logger()
_ERROR_CHARS = 500
_SHORTEST_PAUSE = 0.05  # seconds; what is overdue and yet not ours is locked by somebody
_FORGET_LEASES = 100  # a replica not seen for so many leases is off the list


@dataclass(frozen=True, slots=True)
class WorkSettings:
    """How work is claimed. Times in seconds.

    `concurrency` is per kind. Handlers of `strict` kinds have effects that no fence can stop: they
    are cancelled when their lease has run out without a renewal, not only when another took it.
    `drain` is how long handlers may go on after a stop was asked for.
    """

    lease: float = 10.0
    poll: float = 1.0
    concurrency: int = 16
    concurrency_of: Mapping[str, int] = field(default_factory=dict)
    strict: frozenset[str] = frozenset()
    retry_first: float = 0.5
    retry_most: float = 60.0
    drain: float = 5.0

    @property
    def tick(self) -> float:
        """Seconds between heartbeats, each of which renews what is held."""
        return self.lease / 4


@dataclass(eq=False)
class _Running:
    lease: Lease
    task: asyncio.Task[None]
    held_until: float  # time.monotonic(), counted from before the claim was sent

    def stop(self, why: str) -> None:
        """Cancel the handler, once: what it does about it is not to be cancelled as well."""
        if not self.task.cancelling():
            _log.warning("work cancelled", kind=self.lease.kind, id=self.lease.id, why=why)
            self.task.cancel(why)


@dataclass(frozen=True, slots=True)
class Taken:
    """Work that is held and does not run yet; call `start` once its transaction has committed.

    False: the process drains, and another replica takes it when the lease ends.
    """

    start: Callable[[Handler], bool]


class WorkLoop:
    """Runs the handlers of a service's kinds of work; one loop per process."""

    def __init__(
        self,
        db: Database,
        handlers: Mapping[str, Handler],
        settings: WorkSettings | None = None,
        replica: str | None = None,
    ) -> None:
        self._db = db
        self._handlers = dict(handlers)
        self._settings = settings or WorkSettings()
        self._lease = timedelta(seconds=self._settings.lease)
        self.replica = replica or f"rep_{uuid.uuid4().hex}"
        self._running: dict[int, _Running] = {}
        self._healthy_since: float | None = None
        self._last_beat = 0.0
        self._full = False  # at the last look there was, or might have been, more than fits
        self._draining = False

    async def run(self) -> None:
        """Claim and run until cancelled; then drain: let handlers end or hand over what they do.

        Leases are renewed until the last handler has ended.
        """
        async with asyncio.TaskGroup() as tasks:
            beat = tasks.create_task(forever("heartbeat", self._beat, most=self._settings.tick))
            watch = tasks.create_task(forever("watch leases", self._watch))
            try:
                await forever("claim work", self._claim, most=self._settings.poll)
            finally:
                self._draining = True
                await self._drain()
                beat.cancel()
                watch.cancel()

    async def take(self, tx: Transaction, kind: str, work_id: str) -> Taken | None:
        """Schedule new work and hold it from its first moment; None: no place here, schedule it.

        Saves the way through the claim. For ids that were never scheduled; start it after the
        commit. Work that is not started is taken over when its lease ends.
        """
        busy = sum(work.lease.kind == kind for work in self._running.values())
        if self._draining or self._healthy_since is None or busy >= self._limit(kind):
            return None
        sent = time.monotonic()
        key = (tx.tenant, kind, work_id)
        row = await work_rows.take(tx, key, self.replica, self._lease)

        def start(handler: Handler) -> bool:
            if not self._draining:
                self._start(row, sent, handler)
            return not self._draining

        return Taken(start)

    async def _claim(self) -> None:
        busy = Counter(work.lease.kind for work in self._running.values())
        free = {kind: self._limit(kind) - busy[kind] for kind in self._handlers}
        free = {kind: n for kind, n in free.items() if n > 0}
        pause: float | None = None
        self._full = True
        if free:
            sent = time.monotonic()
            async with self._db.system() as tx:
                rows = await work_rows.claim(
                    tx, self.replica, free, self._lease, take_over=self._may_take_over()
                )
                pause = await work_rows.seconds_to_next(tx, list(free))
            if rows:
                await faults.point("work.claimed")
            taken = Counter(row["kind"] for row in rows)
            self._full = len(free) < len(self._handlers) or any(
                taken[kind] == n for kind, n in free.items()
            )
            for row in rows:
                self._start(row, sent, self._handlers[row["kind"]])
            if self._full:
                return  # there may be more
        longest = self._settings.poll
        await self._db.work_scheduled.wait(
            longest if pause is None else min(longest, max(_SHORTEST_PAUSE, pause))
        )

    def _limit(self, kind: str) -> int:
        return self._settings.concurrency_of.get(kind, self._settings.concurrency)

    def _may_take_over(self) -> bool:
        now = time.monotonic()
        return (
            self._healthy_since is not None
            and now - self._last_beat <= 2 * self._settings.tick
            and now - self._healthy_since >= self._settings.lease
        )

    def _start(self, row: Row, sent: float, handler: Handler) -> None:
        key = (row["tenant_id"], row["kind"], row["id"], self.replica, row["fence"])
        lease = Lease(self._db, key, row["attempt"], self._lease)
        task = asyncio.create_task(self._run_one(lease, handler), name=f"{lease.kind} {lease.id}")
        self._running[lease.fence] = _Running(lease, task, sent + self._settings.lease)

    async def _run_one(self, lease: Lease, handler: Handler) -> None:
        structlog.contextvars.bind_contextvars(
            tenant=lease.tenant, work=f"{lease.kind} {lease.id}", attempt=lease.attempt
        )
        try:
            await self._settle(lease, handler)
        except Exception as error:  # it runs out and is taken again
            report("give work back", error, 1)
        finally:
            del self._running[lease.fence]
            if self._full or not lease.settled:
                self._db.work_scheduled.give()  # there is a place for more, or it is due again

    async def _settle(self, lease: Lease, handler: Handler) -> None:
        try:
            await handler(lease)
            if not lease.settled:
                async with lease.transaction() as tx:
                    await lease.done(tx)
        except LeaseLost:
            _log.warning("lease lost", kind=lease.kind, id=lease.id)
        except HandOver:
            await self._insist(lambda tx: work_rows.release(tx, self.replica, [lease.fence]))
        except asyncio.CancelledError as error:
            if asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise  # by us: the lease is lost, or all are released at the end of the drain
            await self._give_back(lease, error)
        except Exception as error:
            await self._give_back(lease, error)

    async def _give_back(self, lease: Lease, error: BaseException) -> None:
        settings = self._settings
        pause = backoff(lease.attempt, settings.retry_first, settings.retry_most)
        _log.error(
            "work failed", kind=lease.kind, id=lease.id, retry_in=round(pause, 1), exc_info=error
        )
        text = f"{type(error).__name__}: {error}"[:_ERROR_CHARS]
        delay = timedelta(seconds=pause)
        await self._insist(
            lambda tx: work_rows.retry(tx, self.replica, lease.fence, delay, text, lease.due_by)
        )

    async def _insist(self, write: Callable[[Statements], Awaitable[None]]) -> None:
        """Write through an outage; the lease is renewed as soon as it ends."""
        for failures in itertools.count(1):
            try:
                async with self._db.system() as tx:
                    await write(tx)
            except DomainError as error:
                report("give work back", error, failures)
                await asyncio.sleep(backoff(failures, 0.1, self._settings.tick))
            else:
                return

    async def _beat(self) -> None:
        """Tell that we live and renew what we hold, in one transaction."""
        tick = self._settings.tick
        sent = time.monotonic()
        fences = [fence for fence, work in self._running.items() if not work.lease.settled]
        try:
            async with asyncio.timeout(tick), self._db.system() as tx:
                await work_rows.heartbeat(tx, self.replica)
                held = await work_rows.renew(tx, self.replica, fences, self._lease)
                await faults.point("work.renewed")
        except TimeoutError as error:
            raise DatabaseUnavailable("the database took too long") from error
        if self._healthy_since is None or sent - self._last_beat > 2 * tick:
            self._healthy_since = sent
        self._last_beat = sent
        self._note_renewals(fences, held, sent)
        await asyncio.sleep(max(0.0, sent + tick - time.monotonic()))

    def _note_renewals(self, fences: Iterable[int], held: Container[int], sent: float) -> None:
        for fence in fences:
            work = self._running.get(fence)
            if work is None or work.lease.settled:
                continue
            if fence in held:
                work.held_until = sent + self._settings.lease
            else:
                work.stop("the lease was lost")

    async def _watch(self) -> None:
        """Cancel strict handlers a tick before their lease ends, if it was not renewed."""
        await asyncio.sleep(self._settings.tick / 4)
        late = time.monotonic() + self._settings.tick
        for work in self._running.values():
            if work.lease.kind in self._settings.strict and work.held_until <= late:
                work.stop("the lease could not be renewed")

    async def _drain(self) -> None:
        for work in self._running.values():
            work.lease.draining = True
        tasks = [work.task for work in self._running.values()]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._settings.drain)
            for task in late:
                task.cancel("the process drains")
            await asyncio.gather(*tasks, return_exceptions=True)
        try:
            async with self._db.system() as tx:
                await work_rows.release(tx, self.replica, None)
                await work_rows.forget(tx, self.replica, _FORGET_LEASES * self._lease)
        except DomainError as error:
            report("hand work over", error, 1)
