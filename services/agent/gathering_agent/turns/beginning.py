"""How a turn gets its worker: the replica that stores it holds it at once, where it has room."""

from __future__ import annotations

from dataclasses import dataclass

from gathering_agent.context.reading import Tail, tail
from gathering_agent.models import Session
from gathering_agent.ports import Rows
from gathering_agent.turns.inquiry import Asking, Opened
from gathering_agent.turns.running import Running
from gathering_agent.turns.waiting import RUN, Queue
from gathering_mesh.postgres import Transaction
from gathering_mesh.work import Taken, WorkLoop


@dataclass(slots=True)
class Held:
    """A new turn on its way: whether this replica holds it, and what is stored of it, if it is.

    `asking`: what other services are asked for it, while it is being stored.
    """

    taken: Taken | None = None
    opened: Opened | None = None
    asking: Asking | None = None

    def drop(self) -> None:
        """Let go of a turn that was not stored."""
        if self.asking is not None:
            self.asking.cancel()


class Begin:
    """Begins turns: without a claim and without reading again what was just written.

    Those that have to wait for their session go to `queue`.
    """

    def __init__(self, rows: Rows, loop: WorkLoop, running: Running, queue: Queue) -> None:
        self.queue = queue
        self._rows = rows
        self._loop = loop
        self._running = running

    async def take(self, tx: Transaction, turn_id: str, held: Held) -> bool:
        """Schedule a new turn and hold it if this replica has room; else any may claim it."""
        held.taken = await self._loop.take(tx, RUN, turn_id)
        if held.taken is None:
            await tx.schedule(RUN, turn_id)
        return held.taken is not None

    async def before(self, tx: Transaction, session: Session, held: Held) -> Tail:
        """Return what was said before a turn that is held."""
        return await tail(self._rows, tx, session) if held.taken else Tail(None, [])

    def ask(self, tx: Transaction, opened: Opened, held: Held) -> None:
        """Ask other services already for what a turn that is held needs; it changes nothing."""
        if held.taken is not None:
            held.asking = self._running.inquiry.begin(tx.tenant, opened)

    def start(self, held: Held) -> None:
        """Run a turn that is held, after its transaction; if that may have failed, it is read."""
        if held.taken is None:
            return
        if not held.taken.start(lambda lease: self._running.run(lease, held.opened, held.asking)):
            held.drop()
