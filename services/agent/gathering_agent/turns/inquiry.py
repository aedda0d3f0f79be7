"""What a turn asks other services before its first model call: memories, and the tools it has."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace

from gathering_agent.agents.models import Agent
from gathering_agent.budgets.models import Budget
from gathering_agent.context.models import Digest, Project
from gathering_agent.models import Background, Message, Session, Turn
from gathering_agent.ports import Authority, GrantedTool, Memories, Skills, Work
from gathering_agent.turns.own_tools import SUBMIT, OwnTools
from gathering_agent.turns.policy import Policy
from gathering_mesh.errors import DeadlineExceeded, DomainError, ResourceExhausted, Unavailable

_log = logging.getLogger(__name__)
_LONGEST_QUERY = 4000  # characters; what the memory service takes


@dataclass(frozen=True, slots=True)
class Peers:
    """The services that a turn works with."""

    memories: Memories
    skills: Skills
    authority: Authority


@dataclass(frozen=True, slots=True)
class Opened:
    """A turn as it is stored; `history` are the latest messages of its session, oldest first.

    `digest`: of what is before these, or of the part of that which is condensed already.
    """

    turn: Turn
    session: Session
    agent: Agent
    history: list[Message]
    budgets: tuple[Budget, ...] = ()
    digest: Digest | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """What the other services told of a turn, and as whom they were asked."""

    work: Work
    background: Background
    granted: dict[str, GrantedTool]


Asking = asyncio.Task[Told]


class Inquiry:
    """Asks for turns. It changes nothing, so that it may begin before a turn is stored."""

    def __init__(self, peers: Peers, policy: Policy, own: OwnTools) -> None:
        self._peers = peers
        self._policy = policy
        self._own = own

    def begin(self, tenant: str, opened: Opened) -> Asking:
        """Begin to ask the other services for what a turn needs."""
        return asyncio.create_task(self._asked(tenant, opened))

    async def _asked(self, tenant: str, opened: Opened) -> Told:
        work = await self.work(tenant, opened.session, opened.turn)
        background, project, granted = await asyncio.gather(
            self._background(work, opened),
            self._project(work, opened),
            self._granted(work, opened.session),
        )
        background = replace(background, project=project)
        return Told(work, background, granted)

    async def work(self, tenant: str, session: Session, turn: Turn) -> Work:
        """Return as whom the turn acts, with a token that is good for a minute at least."""
        return Work(
            call=await self._peers.authority.call(
                tenant, turn.delegation_id or session.delegation_id, turn.trace
            ),
            agent_id=turn.agent_id,
            session_id=session.id,
            turn_id=turn.id,
            task_id=turn.task_id,
            workspace_id=session.workspace_id,
        )

    async def _background(self, work: Work, opened: Opened) -> Background:
        """Return what the turn knew when it began; a memory that is away does not stop a turn."""
        turn, limit = opened.turn, opened.agent.recall_limit
        if turn.background is not None:
            return turn.background
        if not limit:
            return Background()
        text = next(m.text for m in opened.history if m.turn_id == turn.id)
        try:
            async with asyncio.timeout(self._policy.recall_seconds):
                found = await self._peers.memories.recall(work, text[:_LONGEST_QUERY], limit)
        except (Unavailable, DeadlineExceeded, ResourceExhausted, TimeoutError) as error:
            _log.warning("turn %s goes on without memories: %r", turn.id, error)
            return Background(recall_failed=True)
        return Background(tuple(found))

    async def _project(self, work: Work, opened: Opened) -> Project | None:
        """Return what the workspace is the home of, if there is one; without it a turn goes on."""
        if opened.turn.background is not None:
            return opened.turn.background.project
        if not work.workspace_id:
            return None
        try:
            async with asyncio.timeout(self._policy.recall_seconds):
                return await self._peers.skills.project(work)
        except (DomainError, TimeoutError) as error:
            _log.warning("turn %s goes on without its project: %r", opened.turn.id, error)
            return None

    async def _granted(self, work: Work, session: Session) -> dict[str, GrantedTool]:
        """Return the tools that can be used here; none takes the name of one of our own."""
        return {
            tool.spec.name: tool
            for tool in await self._peers.skills.granted(work)
            if (session.workspace_id or not tool.needs_workspace)
            and not (self._own.has(tool.spec.name) or tool.spec.name == SUBMIT)
        }
