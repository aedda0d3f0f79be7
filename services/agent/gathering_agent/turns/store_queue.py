"""The rows of turns that wait for their session, and of what was said with them."""

from __future__ import annotations

from collections.abc import Sequence

from gathering_agent.models import Message
from gathering_agent.sessions import store_images
from gathering_agent.sessions.store import MESSAGE_COLUMNS, MESSAGE_PLACES, message_values
from gathering_mesh.postgres import Transaction

_HOLD = "select from agent.sessions where tenant_id = $1 and id = $2 for update"
_WAITING = """
select id, place from agent.turns
where tenant_id = $1 and session_id = $2 and state = 'waiting' order by place
"""
_KEEP = f"""
insert into agent.messages ({MESSAGE_COLUMNS}, create_time)
values ({MESSAGE_PLACES}, clock_timestamp())
"""  # noqa: S608 (names of columns)
_PLACE = """
with request as (
    select id, session_id from agent.messages
    where tenant_id = $1 and turn_id = $2 and sequence is null
), next as (
    update agent.sessions s
    set message_count = message_count + 1, last_message_time = clock_timestamp()
    from request where s.tenant_id = $1 and s.id = request.session_id
    returning message_count as sequence, last_message_time as create_time)
update agent.messages m set sequence = next.sequence, create_time = next.create_time
from next, request where m.tenant_id = $1 and m.id = request.id
"""
_DROP = "delete from agent.messages where tenant_id = $1 and turn_id = $2 and sequence is null"


class QueueStore:
    """See `ports.QueueRows`."""

    async def hold(self, tx: Transaction, session_id: str) -> None:
        """Lock a session's row."""
        await tx.run(_HOLD, tx.tenant, session_id)

    async def waiting(self, tx: Transaction, session_id: str) -> Sequence[tuple[str, int]]:
        """Return the turns of a session that wait, with their places, in their order."""
        rows = await tx.fetch(_WAITING, tx.tenant, session_id)
        return [(row["id"], row["place"]) for row in rows]

    async def keep(self, tx: Transaction, request: Message) -> None:
        """Add a message that has no place in its session."""
        await tx.run(_KEEP, *message_values(tx, request))
        await store_images.keep(tx, (request,))

    async def place(self, tx: Transaction, turn_id: str) -> None:
        """Make it the next message of its session."""
        await tx.run(_PLACE, tx.tenant, turn_id)

    async def drop(self, tx: Transaction, turn_id: str) -> None:
        """Delete it."""
        await tx.run(_DROP, tx.tenant, turn_id)
