"""React to another service's events, each exactly once: the position moves with the effect.

Several replicas may run the same consumer: the row of its position is locked and compared in the
transaction of every effect, so the slower one finds that it was done and goes on. An event whose
handler keeps failing is parked with all later ones of its aggregate; the others go on. A consumer
that asks for it has waiting events of one tenant handled in one transaction; if that fails, each is
handled by itself.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import grpc
import structlog

from gathering.events.v1 import event_log_service_pb2 as pb
from gathering.events.v1 import event_pb2
from gathering_mesh import consumer_rows, envelope, faults
from gathering_mesh.consumer_rows import ConsumerRows
from gathering_mesh.consumer_stream import Concerns, LogReader, Outgoing
from gathering_mesh.errors import Unavailable
from gathering_mesh.log_rows import Position
from gathering_mesh.loops import backoff, forever, jittered, report
from gathering_mesh.postgres import Database, Transaction
from gathering_mesh.postgres_errors import DATABASE_AWAY
from gathering_mesh.streams import in_pages

_log = structlog.get_logger()
EventHandler = Callable[[Transaction, event_pb2.Event], Awaitable[None]]
EventsHandler = Callable[[Transaction, Sequence[event_pb2.Event]], Awaitable[None]]
OnGap = Callable[[pb.LogGap], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ConsumerSettings:
    """How often a handler is tried and how a stream is watched. Times in seconds."""

    attempts: int = 5
    retry_first: float = 0.1
    retry_most: float = 2.0
    silence: float = 30.0  # a stream that says nothing for so long is dead: the log's heart beats
    parked_retry: float = 60.0
    at_once: int = 1  # events that wait already, of one tenant, in one transaction
    gather: float = 0.0  # how long an event waits for others to be handled with
    # Whether effects are on disk before the next ones. Without it a crash of the database may take
    # the last ones back, with the position: they are brought about again.
    durable: bool = True
    pass_seconds: float = 5.0  # between notes of how far a log was read that concerns nobody


class _Moved(Unavailable):
    """The consumer stands elsewhere than we believe; start from where it stands now.

    Another replica took it to another epoch, or a crash of the database took it back.
    """


class Consumer:
    """One durable reader of one service's log, with one handler; `run` it while the app runs.

    `handler` gets a transaction in the event's tenant and the event; what it writes commits with
    the position. It makes no effect outside of that transaction: it schedules work for that.
    `together` does the same for several events in fewer statements; those it writes have no cause.
    `outgoing` gives the metadata of calls (`channels.outgoing_as_actor`). `on_gap` is told when
    entries are missing, before the consumer goes on. Events that `concerns` denies are passed
    without a transaction.
    """

    def __init__(  # noqa: PLR0917 - who reads which log, and what it does about what
        self,
        db: Database,
        name: str,
        source: str,
        channel: grpc.aio.Channel,
        handler: EventHandler,
        types: set[str],
        *,
        together: EventsHandler | None = None,
        outgoing: Outgoing = dict,
        concerns: Concerns | None = None,
        on_gap: OnGap | None = None,
        settings: ConsumerSettings | None = None,
    ) -> None:
        self._db = db
        self._rows = ConsumerRows(name, source)
        self._handler = handler
        self._together_handler = together
        self._on_gap = on_gap
        self._settings = settings or ConsumerSettings()
        self._reader = LogReader(
            source, channel, sorted(types), outgoing, concerns,
            silence=self._settings.silence, pass_seconds=self._settings.pass_seconds,
        )  # fmt: skip
        self._at = Position("", 0)

    async def run(self) -> None:
        """Consume until cancelled, and now and then retry what is parked."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(forever(f"consume {self._rows.source}", self._stream, vital=False))
            tasks.create_task(forever(f"retry parked {self._rows.source}", self._retry_later))

    async def retry_parked(self, aggregate_id: str | None = None) -> int:
        """Handle parked events again, of one aggregate or all; return how many succeeded."""
        async with self._db.system() as tx:
            parked = await self._rows.parked_aggregates(tx)
        done = 0
        for tenant, found in parked:
            if aggregate_id in {None, found}:
                while await self._retry_oldest(tenant, found):
                    done += 1
        return done

    async def _retry_later(self) -> None:
        await asyncio.sleep(jittered(self._settings.parked_retry))
        await self.retry_parked()

    async def _stream(self) -> None:
        """Follow the log from where the consumer stands until the stream ends or fails."""
        async with self._db.system() as tx:
            self._at = await self._rows.begin(tx)
        frames = self._reader.frames(self._at)
        pages = in_pages(frames, self._settings.at_once, self._settings.gather)
        async with aclosing(pages):
            async for page in pages:
                for of, following in itertools.groupby(page, _tenant_of):
                    await self._take_all(of, list(following))

    async def _take_all(self, of: str, frames: list[pb.TailResponse]) -> None:
        """Take what follows one another: entries of one tenant, or frames that are no entries."""
        several = bool(of) and self._settings.at_once > 1 and len(frames) > 1
        if not (several and await self._together([frame.entry for frame in frames])):
            for frame in frames:
                await self._take(frame)

    async def _take(self, frame: pb.TailResponse) -> None:
        kind = frame.WhichOneof("frame")
        if kind == "entry":
            await self._handle(frame.entry)
        elif kind == "gap":
            await self._pass_gap(frame.gap)
        elif kind == "head":
            await self._pass_to(_place(frame.head.position))

    async def _handle(self, entry: pb.LogEntry) -> None:
        """Bring about the effect of an entry, or park it."""
        place = _place(entry.event)
        failure = ""
        for attempt in range(1, self._settings.attempts + 1):
            if self._is_behind_us(place):
                return
            try:
                await self._effects([entry])
            except (*DATABASE_AWAY, _Moved):
                raise
            except Exception as error:
                report(f"{self._rows.name} {entry.event.type}", error, attempt)
                failure = f"{type(error).__name__}: {error}"
                await asyncio.sleep(
                    backoff(attempt, self._settings.retry_first, self._settings.retry_most)
                )
            else:
                return
        await self._effects([entry], failure)

    async def _together(self, entries: Sequence[pb.LogEntry]) -> bool:
        """Bring about all effects or none; False: one of them fails, and each is to be tried."""
        try:
            await self._effects(entries)
        except (*DATABASE_AWAY, _Moved):
            raise
        except Exception as error:
            report(f"{self._rows.name} {len(entries)} events together", error, 1)
            return False
        return True

    def _is_behind_us(self, place: Position) -> bool:
        return place.epoch == self._at.epoch and place.position <= self._at.position

    async def _effects(self, entries: Sequence[pb.LogEntry], failure: str = "") -> None:
        """Handle entries of one tenant in one transaction, or park one that failed."""
        place = _place(entries[-1].event)
        tenant, durable = entries[0].tenant_id, self._settings.durable
        async with self._db.transaction(tenant, durable=durable) as tx:
            at = await self._bring_about(tx, entries, failure)
            await faults.point("consumer.handled")
            if place.position > at.position:
                await self._rows.advance(tx, place)
            await faults.point("consumer.advanced")
        await faults.point("consumer.committed")
        self._at = Position(place.epoch, max(place.position, at.position))

    async def _bring_about(
        self, tx: Transaction, entries: Sequence[pb.LogEntry], failure: str
    ) -> Position:
        """Return where the consumer stood; what is behind that has had its effect."""
        aggregates = {entry.event.aggregate_id for entry in entries}
        state = await self._rows.lock(tx, entries[0].tenant_id, aggregates)
        if state.at != self._at:  # who moved it while we waited may have parked something
            state = await self._rows.lock(tx, entries[0].tenant_id, aggregates)
        if state.at.epoch not in {"", entries[-1].event.epoch}:
            raise _Moved(f"the consumer stands in another epoch of {self._rows.source}")
        self._require_no_return(state.at)
        events: list[event_pb2.Event] = []
        for entry in entries:
            if entry.event.position > state.at.position:
                if failure or entry.event.aggregate_id in state.parked:
                    await self._park(tx, entry, failure)
                else:
                    events.append(entry.event)
        if self._together_handler is not None and len(events) > 1:
            await self._together_handler(tx, events)
        else:
            for event in events:
                await self._call_handler(tx, event)
        return state.at

    def _require_no_return(self, at: Position) -> None:
        """Raise where a crash took the consumer back: what it did since is to be done again."""
        if at.epoch == self._at.epoch and at.position < self._at.position:
            raise _Moved(f"the database went back, and the consumer of {self._rows.source} with it")

    async def _call_handler(self, tx: Transaction, event: event_pb2.Event) -> None:
        tx.cause = envelope.cause_of_reaction(event)
        tx.trace_id = event.trace_id
        await self._handler(tx, event)

    async def _park(self, tx: Transaction, entry: pb.LogEntry, failure: str) -> None:
        why = failure or "waits for an earlier event"
        _log.error(
            "event parked", consumer=self._rows.name, source=self._rows.source,
            position=entry.event.position, aggregate=entry.event.aggregate_id, why=why,
        )  # fmt: skip
        attempts = self._settings.attempts if failure else 0
        await self._rows.park(tx, entry.tenant_id, entry.event, why, attempts)

    async def _retry_oldest(self, tenant: str, aggregate_id: str) -> bool:
        seq = 0
        try:
            async with self._db.transaction(tenant) as tx:
                found = await self._rows.oldest(tx, tenant, aggregate_id)
                if found is None:
                    return False
                seq, event = found
                await self._call_handler(tx, event)
                await consumer_rows.unpark(tx, seq)
        except DATABASE_AWAY:
            raise
        except Exception as error:
            report(f"{self._rows.name} parked event", error, 1)
            async with self._db.transaction(tenant) as tx:
                await consumer_rows.failed_again(tx, seq, f"{type(error).__name__}: {error}")
            return False
        return True

    async def _pass_to(self, head: Position) -> None:
        if not self._is_behind_us(head):
            async with self._db.system() as tx:
                self._require_no_return(await self._rows.skip(tx, self._at, head))
            self._at = head

    async def _pass_gap(self, gap: pb.LogGap) -> None:
        reason = pb.LogGap.Reason.Name(gap.reason)
        asked, resume = _place(gap.asked), _place(gap.resume)
        why = f"{reason}: {asked.epoch}/{asked.position} to {resume.epoch}/{resume.position}"
        _log.error("events missing", consumer=self._rows.name, source=self._rows.source, why=why)
        if self._on_gap is not None:
            await self._on_gap(gap)
        async with self._db.system() as tx:
            if not await self._rows.jump(tx, self._at, resume, why):
                raise _Moved(f"the consumer of {self._rows.source} was moved meanwhile")
        self._at = resume


def _place(of: pb.LogPosition | event_pb2.Event) -> Position:
    return Position(of.epoch, of.position)


def _tenant_of(frame: pb.TailResponse) -> str:
    """Return the tenant of an entry; empty for other frames."""
    return frame.entry.tenant_id if frame.HasField("entry") else ""
