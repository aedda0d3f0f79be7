"""The pictures of messages: what they are stands with the message, their bytes here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from gathering_agent.models import Message, as_text
from gathering_agent.sessions.models_images import MOST_SHOWN, Image
from gathering_mesh.postgres import Transaction

_LOADED_BYTES = 5_000_000  # of a session's images, the latest, at once in memory
_KEEP = """
insert into agent.images (tenant_id, message_id, place, data)
select $1, m, p, d from unnest($2::text[], $3::int[], $4::bytea[]) as i (m, p, d)
"""
_DATA = """
select message_id, place, data from agent.images
where tenant_id = $1 and message_id = any($2::text[])
"""
# To the copies of messages, which have the sequences of the originals.
_COPY = """
insert into agent.images (tenant_id, message_id, place, data)
select $1, copy.id, i.place, i.data
from agent.messages m
    join agent.images i on i.tenant_id = $1 and i.message_id = m.id
    join agent.messages copy
        on copy.tenant_id = $1 and copy.session_id = $3 and copy.sequence = m.sequence
where m.tenant_id = $1 and m.session_id = $2 and m.sequence <= $4
"""


async def keep(tx: Transaction, messages: Iterable[Message]) -> None:
    """Add the images of messages."""
    rows = [(m.id, place, one.data) for m in messages for place, one in enumerate(m.images)]
    if rows:
        await tx.run(_KEEP, tx.tenant, *map(list, zip(*rows, strict=True)))


async def latest(tx: Transaction, messages: list[Message]) -> list[Message]:
    """Return messages with the data of their latest images."""
    wanted: list[str] = []
    count = room = 0
    for message in reversed(messages):
        count += len(message.images)
        room += sum(one.size for one in message.images)
        if count > MOST_SHOWN or room > _LOADED_BYTES:
            break
        if message.images:
            wanted.append(message.id)
    return await load(tx, messages, wanted)


async def load(tx: Transaction, messages: list[Message], wanted: Sequence[str]) -> list[Message]:
    """Return messages, some of them with the data of their images."""
    if not wanted:
        return messages
    rows = await tx.fetch(_DATA, tx.tenant, list(wanted))
    data = {(row["message_id"], row["place"]): bytes(row["data"]) for row in rows}
    return [_filled(message, data) for message in messages]


def _filled(message: Message, data: dict[tuple[str, int], bytes]) -> Message:
    if not message.images:
        return message
    images = (
        replace(one, data=data.get((message.id, place), b""))
        for place, one in enumerate(message.images)
    )
    return replace(message, images=tuple(images))


async def copy(tx: Transaction, source: str, target: str, upto: int) -> None:
    """Give a session's images up to a sequence to the copies of their messages."""
    await tx.run(_COPY, tx.tenant, source, target, upto)


def as_json(images: Sequence[Image]) -> str:
    """Return what images are, without data."""
    return as_text([[one.media_type, one.width, one.height, one.size] for one in images])


def of_json(stored: str) -> tuple[Image, ...]:
    """Read what images are."""
    if stored == "[]":
        return ()
    told: list[Any] = json.loads(stored)
    return tuple(Image(*one) for one in told)
