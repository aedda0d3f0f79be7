"""What is read of a session for a turn: its latest messages, and the digest of those before."""

from __future__ import annotations

from typing import NamedTuple

from gathering_agent.context.models import Digest
from gathering_agent.models import Message, Session
from gathering_agent.ports import Rows
from gathering_mesh.postgres import Transaction

_PAGE = 100  # messages that are read at a time; a short session takes one query
_MOST = 400  # messages of a session, but for those of the turn itself
_MOST_CHARACTERS = 6_000_000  # likewise; more than the largest window of today takes


class Tail(NamedTuple):
    """The latest messages of a session, oldest first, and a digest of all or most before."""

    digest: Digest | None
    messages: list[Message]


async def tail(rows: Rows, tx: Transaction, session: Session, turn_id: str = "") -> Tail:
    """Return the end of a session, all messages of a turn included, bounded in any case."""
    digest, messages = await _read(rows, tx, session, turn_id)
    return Tail(digest, await rows.histories.images(tx, messages, latest=True))


async def _read(rows: Rows, tx: Transaction, session: Session, turn_id: str) -> Tail:
    if not session.message_count:
        return Tail(None, [])
    digest = None
    after = session.condensed_upto or 0
    if session.condensed_upto is not None:
        digest = await rows.digests.nearest(tx, session.id, session.condensed_upto)
    messages: list[Message] = []
    before = 2**62
    while True:
        page = await rows.messages.latest(tx, session.id, limit=_PAGE, after=after, before=before)
        messages = [*page, *messages]
        if len(page) < _PAGE or page[0].sequence <= after + 1:
            return Tail(digest, messages)
        if _is_enough([one for one in messages if not turn_id or one.turn_id != turn_id]):
            return Tail(digest, messages)
        before = page[0].sequence


def _is_enough(others: list[Message]) -> bool:
    """Tell it by what is before the turn: a takeover reads about as far as the beginning did."""
    read = sum(len(m.text) + sum(len(r.text) for r in m.tool_results) for m in others)
    return len(others) >= _MOST or read >= _MOST_CHARACTERS
