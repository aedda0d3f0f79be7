"""Remember what a turn told, as work of its own: found, kept, stored, each once.

What was found is kept before any of it is stored, so that whoever goes on stores the same under the
same names. A session that is deleted takes with it what was found and not stored yet.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from gathering_agent.agents.models import AgentFields, RememberMode
from gathering_agent.errors import SessionNotFound, TurnNotFound
from gathering_agent.models import Message, Session, Turn
from gathering_agent.ports import Note, Work
from gathering_agent.remembering.asking import Asked, Asking
from gathering_agent.remembering.likeness import judged
from gathering_agent.remembering.models import Finding
from gathering_agent.remembering.worth import by_rules, request_of
from gathering_agent.turns.inquiry import Peers
from gathering_agent.turns.journal import Journal, Pen, usage_of
from gathering_mesh import faults
from gathering_mesh.errors import (
    DomainError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from gathering_mesh.lease import HandOver, Lease
from gathering_mesh.postgres import Transaction

_log = logging.getLogger(__name__)
_LIKE = 20  # memories that a finding is compared with
_ATTEMPTS = 60  # with the pauses between about an hour, in which memory may be away
_FINAL = (NotFound, PermissionDenied, InvalidArgument, FailedPrecondition)
_REUSED = "REQUEST_ID_REUSED"


@dataclass(frozen=True, slots=True)
class _Told:
    """A turn that was completed, as it is stored."""

    turn: Turn
    session: Session
    agent: AgentFields
    messages: list[Message]
    found: list[Finding] | None

    @property
    def next_step(self) -> int:
        return max(one.step for one in self.messages) + 1


class Remembering:
    """Stores what is worth it; one call of `run` per lease."""

    def __init__(self, journal: Journal, peers: Peers, asking: Asking) -> None:
        self._journal = journal
        self._rows = journal.rows
        self._peers = peers
        self._asking = asking

    async def run(self, lease: Lease) -> None:
        """Remember a turn; what cannot be remembered is left after a while, or at once."""
        try:
            await self._run(lease)
        except (TurnNotFound, SessionNotFound):  # deleted: what its call used is left to say
            async with lease.transaction() as tx:
                await self._settle(tx, lease.id)
                await self._rows.findings.drop(tx, lease.id)
                await lease.done(tx)
        except DomainError as error:
            if not _final(error) and lease.attempt < _ATTEMPTS:
                raise
            _log.warning("turn %s is not remembered: %r", lease.id, error)
            async with lease.transaction() as tx:
                await self._settle(tx, lease.id)
                await self._rows.findings.drop(tx, lease.id)
                await lease.done(tx)

    async def _run(self, lease: Lease) -> None:
        told = await self._open(lease)
        found = await self._found(lease, told) if told.found is None else told.found
        if found:
            await self._store(lease, told, found)
        async with lease.transaction() as tx:
            await self._rows.findings.drop(tx, lease.id)
            await lease.done(tx)

    async def _store(self, lease: Lease, told: _Told, found: list[Finding]) -> None:
        """Store what was found, each once."""
        turn, session = told.turn, told.session
        right = turn.delegation_id or session.delegation_id
        call = await self._peers.authority.call(lease.tenant, right, turn.trace)
        work = Work(call, turn.agent_id, session.id, turn.id, turn.task_id, session.workspace_id)
        for place, finding in enumerate(found):
            if lease.draining:
                raise HandOver
            await self._remember(work, place, finding)
            await faults.point("remember.stored")

    async def _open(self, lease: Lease) -> _Told:
        async with lease.transaction() as tx:
            turn = await self._rows.turns.get(tx, lease.id)
            session = await self._rows.sessions.get(tx, turn.session_id)
            fields = await self._rows.versions.fields(tx, turn.agent_id, turn.agent_version)
            messages = await self._rows.messages.of_turn(tx, turn.id)
            found = await self._rows.findings.get(tx, turn.id)
        return _Told(turn, session, fields, messages, found)

    async def _found(self, lease: Lease, told: _Told) -> list[Finding]:
        """Find what is worth it and keep it, with what it cost to find."""
        turn, policy = told.turn, told.agent.memory_policy
        asked_for = request_of(turn, told.messages)
        asked: Asked | None = None
        if policy.mode is RememberMode.MODEL and not turn.task_id:
            async with lease.transaction() as tx:  # the call of a replica that was lost in it
                await self._settle(tx, turn.id)
            asked = await self._asking.ask(Pen(lease), told.agent, turn, told.next_step, asked_for)
        found = by_rules(policy, turn, asked_for) if asked is None else asked.findings
        await faults.point("remember.found")
        async with lease.transaction() as tx:
            turn = await self._rows.turns.get(tx, turn.id, lock=True)  # not deleted meanwhile
            await self._rows.findings.put(tx, turn.id, found)
            if asked is not None:
                turn = replace(turn, usage=turn.usage + usage_of(asked.used))
                await self._rows.turns.update(tx, turn)
                await self._rows.attempts.settle(tx, turn, asked.used)
            elif policy.mode is RememberMode.MODEL:  # a call that failed may not be noted yet
                await self._settle(tx, turn.id)
        await faults.point("remember.kept")
        return found

    async def _settle(self, tx: Transaction, turn_id: str) -> None:
        """Settle calls of whose end nobody told."""
        await self._rows.turns.hold(tx, turn_id)
        await self._rows.attempts.settle_lost(tx, turn_id)

    async def _remember(self, work: Work, place: int, finding: Finding) -> None:
        """Store one finding, unless it is known; in the place of what it corrects."""
        known = await self._peers.memories.like(work, finding.said, _LIKE)
        verdict = judged(finding, known)
        if verdict.known:
            return
        note = Note(
            request_id=f"{work.turn_id}:remember:{place}",
            text=finding.text,
            scope="personal" if finding.personal else "private",
            scope_id="",
            kind=finding.kind,
            importance=finding.importance,
            tags=finding.tags,
            supersedes=verdict.replaces,
            source=f"remembered by itself ({finding.rule})",
        )
        try:
            await self._peers.memories.remember(work, note)
        except (NotFound, FailedPrecondition):
            if not note.supersedes:
                raise
            await self._peers.memories.remember(work, replace(note, supersedes=""))
        except InvalidArgument as error:
            if error.reason != _REUSED:  # it was stored when its place was judged otherwise
                raise


def _final(error: DomainError) -> bool:
    """Tell whether trying again is of no use."""
    if isinstance(error, Unauthenticated):
        return error.reason == "CREDENTIALS_REVOKED"
    return isinstance(error, _FINAL)
