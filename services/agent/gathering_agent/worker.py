"""Claims the work of this service, and listens to its log for what other replicas did."""

from __future__ import annotations

from gathering_agent.ports import MessageRows
from gathering_agent.providers.lines import Lines
from gathering_agent.remembering.work import Remembering
from gathering_agent.remembering.worth import REMEMBER
from gathering_agent.streams.live import Live
from gathering_agent.turns.running import Running
from gathering_agent.turns.stopping import STOP_TOOLS, Stopping
from gathering_agent.turns.waiting import RUN
from gathering_mesh.eventlog import EventLog
from gathering_mesh.postgres import Database
from gathering_mesh.work import WorkLoop, WorkSettings

_TURN_EVENTS = frozenset({"turn_step_completed", "turn_completed", "turn_failed", "turn_cancelled"})
_KEY_EVENTS = frozenset({"provider_key_set", "provider_key_deleted"})


def work_loop(
    db: Database,
    running: Running,
    stopping: Stopping,
    remembering: Remembering,
    settings: WorkSettings,
) -> WorkLoop:
    """Return the loop that runs turns, clears up after cancelled ones, remembers completed ones."""
    handlers = {RUN: running.run, STOP_TOOLS: stopping.run, REMEMBER: remembering.run}
    return WorkLoop(db, handlers, settings)


async def listen(log: EventLog, live: Live, lines: Lines, messages: MessageRows) -> None:
    """Wake watchers, stop workers, forget sessions and keys here, for what any replica stored."""
    async for frame in log.tail():
        event = frame.entry.event
        if event.type == "turn_cancelled":
            live.cancel(event.aggregate_id)
        elif event.type in _TURN_EVENTS:
            live.stored(event.aggregate_id)
        elif event.type == "session_deleted":
            messages.forget(frame.entry.tenant_id, event.aggregate_id)
        elif event.type in _KEY_EVENTS:
            await lines.forget(frame.entry.tenant_id)
