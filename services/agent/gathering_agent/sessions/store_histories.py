"""What was said in a session, as a whole: copied, brought in, erased."""

from __future__ import annotations

from collections.abc import Sequence

from gathering_agent.errors import MessageNotFound
from gathering_agent.models import Message, as_text
from gathering_agent.sessions import store_images
from gathering_mesh.postgres import Transaction

_PLACE = """
select sequence from agent.messages where tenant_id = $1 and session_id = $2 and id = $3
"""
# Ids as the service makes them, but for their order, which nothing asks for.
_COPY = """
insert into agent.messages (tenant_id, id, session_id, turn_id, step, sequence, role, text,
    tool_calls, tool_results, native, images, generation, create_time)
select tenant_id, 'msg_' || replace(gen_random_uuid()::text, '-', ''), $3, null, step, sequence,
    role, text, tool_calls, tool_results, native, images, '', create_time
from agent.messages where tenant_id = $1 and session_id = $2 and sequence <= $4
"""
_COPY_DIGESTS = """
insert into agent.digests (tenant_id, session_id, upto, digest)
select tenant_id, $3, upto, digest from agent.digests
where tenant_id = $1 and session_id = $2 and upto <= $4
"""
_TELL = """
update agent.sessions s set message_count = m.count, last_message_time = m.latest,
    condensed_upto = (
        select max(upto) from agent.digests where tenant_id = $1 and session_id = $2)
from (select count(*) as count, max(create_time) as latest from agent.messages
    where tenant_id = $1 and session_id = $2) m
where s.tenant_id = $1 and s.id = $2
"""
_ADD = """
insert into agent.messages (tenant_id, id, session_id, turn_id, step, sequence, role, text,
    tool_calls, tool_results, native, images, generation, create_time)
select $1, id, $2, null, step, sequence, role, text, calls::jsonb, results::jsonb, null,
    images::jsonb, '', at
from unnest($3::text[], $4::int[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::text[],
    $10::text[], $11::timestamptz[])
    as m (id, step, sequence, role, text, calls, results, images, at)
"""
# What is left of turns is what they used: ids, times, counts. They are not shown any more.
_ERASE = (
    "delete from agent.messages where tenant_id = $1 and session_id = $2",
    "delete from agent.digests where tenant_id = $1 and session_id = $2",
    "delete from agent.delegations where tenant_id = $1 and session_id = $2",
    """
    update agent.turns set deleted = true, text = '', result = null, result_schema = null,
        background = null, error_message = ''
    where tenant_id = $1 and session_id = $2
    """,
    # After the turns, whose locks whoever finds something in one holds meanwhile.
    """
    delete from agent.findings where tenant_id = $1
        and turn_id in (select id from agent.turns where tenant_id = $1 and session_id = $2)
    """,
    """
    update agent.sessions set delete_time = clock_timestamp(), title = '', message_count = 0,
        condensed_upto = null, version = version + 1
    where tenant_id = $1 and id = $2
    """,
)


class HistoryStore:
    """See `context.ports.HistoryRows`."""

    async def place(self, tx: Transaction, session_id: str, message_id: str) -> int:
        """Return the sequence of a message of a session; MessageNotFound."""
        place: int | None = await tx.fetch_value(_PLACE, tx.tenant, session_id, message_id)
        if place is None:
            raise MessageNotFound(message_id)
        return place

    async def copy(self, tx: Transaction, source: str, target: str, upto: int) -> None:
        """Add a session's messages up to a sequence to a new one."""
        await tx.run(_COPY, tx.tenant, source, target, upto)
        await store_images.copy(tx, source, target, upto)
        await tx.run(_COPY_DIGESTS, tx.tenant, source, target, upto)
        await tx.run(_TELL, tx.tenant, target)

    async def images(
        self, tx: Transaction, messages: list[Message], *, latest: bool = False
    ) -> list[Message]:
        """Return messages with the data of all their images, or of the latest that are shown."""
        if latest:
            return await store_images.latest(tx, messages)
        return await store_images.load(tx, messages, [one.id for one in messages if one.images])

    async def add(self, tx: Transaction, messages: Sequence[Message]) -> None:
        """Add messages with their sequences to a new session."""
        if not messages:
            return
        session_id = messages[0].session_id
        await tx.run(
            _ADD,
            tx.tenant,
            session_id,
            [message.id for message in messages],
            [message.step for message in messages],
            [message.sequence for message in messages],
            [message.role.value for message in messages],
            [message.text for message in messages],
            [as_text(message.tool_calls) for message in messages],
            [as_text(message.tool_results) for message in messages],
            [store_images.as_json(message.images) for message in messages],
            [message.create_time for message in messages],
        )
        await store_images.keep(tx, messages)
        await tx.run(_TELL, tx.tenant, session_id)

    async def erase(self, tx: Transaction, session_id: str) -> None:
        """Delete a session's messages and rights, and every text of it and its turns.

        Images go with their messages.
        """
        for statement in _ERASE:
            await tx.run(statement, tx.tenant, session_id)
