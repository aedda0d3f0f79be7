"""How a turn gets its worker: the replica that stores it holds it at once, where it has room."""

from __future__ import annotations

from gathering_agent.models import Message, Session
from gathering_agent.ports import Rows
from gathering_agent.running import HISTORY, Opened, Running
from gathering_mesh.postgres import Transaction
from gathering_mesh.work import Taken, WorkLoop

RUN = "turn"  # the kind of work


class Begin:
    """Begins turns: without a claim and without reading again what was just written."""

    def __init__(self, rows: Rows, loop: WorkLoop, running: Running) -> None:
        self._rows = rows
        self._loop = loop
        self._running = running

    async def take(self, tx: Transaction, turn_id: str) -> Taken | None:
        """Schedule a new turn; return it held if this replica has room, else any may claim it."""
        taken = await self._loop.take(tx, RUN, turn_id)
        if taken is None:
            await tx.schedule(RUN, turn_id)
        return taken

    async def history(self, tx: Transaction, session: Session) -> list[Message]:
        """Return what was said before the turn."""
        if not session.message_count:
            return []
        return await self._rows.messages.latest(tx, session.id, limit=HISTORY - 1)

    def start(self, taken: Taken, opened: Opened) -> None:
        """Run a turn that is held, now that it is stored."""
        taken.start(lambda lease: self._running.run(lease, opened))
