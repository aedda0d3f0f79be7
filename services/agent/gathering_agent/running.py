"""What a turn does: a model call, its tool calls, again, until it is done.

The conversation is the journal. A step is stored before it is acted on, so where a turn stands is
what its last message says: a request or tool results ask for a model call, tool calls ask to be
run, and whoever holds the lease goes on from there. Names of tool calls follow from their place.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from gathering_agent.catalogue import Catalogue
from gathering_agent.context import Bounds, Setting, request
from gathering_agent.journal import Journal, Pen
from gathering_agent.live import Channel, Live
from gathering_agent.models import (
    Background,
    Message,
    Role,
    Session,
    StopReason,
    Turn,
    TurnState,
)
from gathering_agent.own_tools import SUBMIT, OwnTools, submit_spec
from gathering_agent.ports import (
    Authority,
    GrantedTool,
    Memories,
    ModelProvider,
    Rows,
    Skills,
    Work,
)
from gathering_agent.speaking import Patience, speak
from gathering_agent.tool_round import ToolRounds
from gathering_mesh import faults
from gathering_mesh.errors import (
    Aborted,
    DeadlineExceeded,
    DomainError,
    Internal,
    ResourceExhausted,
    Unavailable,
)
from gathering_mesh.lease import HandOver, Lease, LeaseLost

_log = logging.getLogger(__name__)
_HISTORY = 600  # messages of a session that are read at most
_LONGEST_QUERY = 4000  # characters; what the memory service takes


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient a turn is. Times in seconds."""

    patience: Patience = Patience()  # noqa: RUF009 (frozen)
    turn_seconds: float = 7200.0
    attempts: int = 8  # of the whole turn, on failures of services and replicas
    attempts_at_faults: int = 3  # of our own
    recall_limit: int = 8
    recall_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class Peers:
    """The services that a turn works with."""

    memories: Memories
    skills: Skills
    authority: Authority


@dataclass(slots=True)
class _Run:
    """A turn in the hands of a worker."""

    lease: Lease
    channel: Channel
    session: Session
    setting: Setting
    provider: ModelProvider
    granted: dict[str, GrantedTool]
    history: list[Message]
    turn: Turn
    pen: Pen

    @property
    def max_steps(self) -> int:
        limit = self.setting.agent.step_limit
        return min(self.turn.limits.max_steps or limit, limit)


class Running:
    """Runs turns; one call of `run` per lease."""

    def __init__(
        self, rows: Rows, catalogue: Catalogue, peers: Peers, live: Live, policy: Policy
    ) -> None:
        self._rows = rows
        self._catalogue = catalogue
        self._peers = peers
        self._live = live
        self._policy = policy
        self._own = OwnTools(peers.memories)
        self._rounds = ToolRounds(self._own, peers.skills)
        self._journal = Journal(rows)

    async def run(self, lease: Lease) -> None:
        """Bring a turn to its end, or until it is cancelled or the lease is lost."""
        with self._live.running(lease.id) as channel:
            job = asyncio.create_task(self._job(lease, channel))
            stop = asyncio.create_task(channel.cancelled.wait())
            try:
                await asyncio.wait({job, stop}, return_when=asyncio.FIRST_COMPLETED)
                if job.done():
                    job.result()
            finally:
                stop.cancel()
                job.cancel()
                await asyncio.wait({job, stop})

    async def _job(self, lease: Lease, channel: Channel) -> None:
        try:
            run = await self._open(lease, channel)
            while run is not None and not run.turn.ended:
                await self._advance(run)
        except (HandOver, LeaseLost):
            raise
        except Exception as error:
            verdict = _verdict(error, lease.attempt, self._policy)
            if verdict is None:
                raise
            _log.warning("turn %s failed", lease.id, exc_info=error)
            await self._journal.fail(Pen(lease), verdict)
            channel.stored()

    # --- Where it stands ------------------------------------------------------------------------

    async def _open(self, lease: Lease, channel: Channel) -> _Run | None:
        """Read what is stored and ask the other services for the rest; None if it has ended."""
        async with lease.transaction() as tx:
            turn = await self._rows.turns.get(tx, lease.id, lock=True)
            if turn.ended:
                await lease.done(tx)
                return None
            session = await self._rows.sessions.get(tx, turn.session_id)
            agent = await self._rows.agents.get(tx, turn.agent_id)
            history = await self._rows.messages.latest(tx, session.id, limit=_HISTORY)
            if turn.state is TurnState.QUEUED:
                turn = replace(turn, state=TurnState.RUNNING)
                await self._rows.turns.update(tx, turn)
        model, provider = self._catalogue.find(agent.fields.model)
        work = await self._work(lease, session, turn)
        background, granted = await asyncio.gather(
            self._background(work, turn, history), self._granted(work, session)
        )
        tools = (*self._own.specs, *(tool.spec for tool in granted.values()))
        setting = Setting(agent, turn, background, model, tools, bool(session.workspace_id))
        pen = Pen(lease, work.call)
        return _Run(lease, channel, session, setting, provider, granted, history, turn, pen)

    async def _work(self, lease: Lease, session: Session, turn: Turn) -> Work:
        return Work(
            call=await self._peers.authority.call(lease.tenant, session.delegation_id, turn.trace),
            agent_id=turn.agent_id,
            session_id=session.id,
            turn_id=turn.id,
            task_id=turn.task_id,
            workspace_id=session.workspace_id,
        )

    async def _background(self, work: Work, turn: Turn, history: list[Message]) -> Background:
        """Return what the turn knew when it began; a memory that is away does not stop a turn."""
        if turn.background is not None:
            return turn.background
        asked = next(m for m in history if m.turn_id == turn.id)
        try:
            async with asyncio.timeout(self._policy.recall_seconds):
                found = await self._peers.memories.recall(
                    work, asked.text[:_LONGEST_QUERY], self._policy.recall_limit
                )
        except (Unavailable, DeadlineExceeded, ResourceExhausted, TimeoutError) as error:
            _log.warning("turn %s goes on without memories: %r", turn.id, error)
            return Background(recall_failed=True)
        return Background(tuple(found))

    async def _granted(self, work: Work, session: Session) -> dict[str, GrantedTool]:
        """Return the tools that can be used here; none takes the name of one of our own."""
        return {
            tool.spec.name: tool
            for tool in await self._peers.skills.granted(work)
            if (session.workspace_id or not tool.needs_workspace)
            and not (self._own.has(tool.spec.name) or tool.spec.name == SUBMIT)
        }

    # --- Onwards --------------------------------------------------------------------------------

    async def _advance(self, run: _Run) -> None:
        if run.lease.draining:
            raise HandOver
        last = run.history[-1]
        deadline = run.turn.create_time + timedelta(seconds=self._policy.turn_seconds)
        if datetime.now(UTC) > deadline:
            raise _Overdue("the turn took too long")
        if last.role is Role.ASSISTANT and last.tool_calls:
            await self._run_tools(run, last)
        else:
            await self._step(run, last.step + 1)

    async def _step(self, run: _Run, step: int) -> None:
        """Call the model and store what it said."""
        schema = run.turn.result_schema
        left = run.turn.tool_limit - run.turn.usage.tool_calls
        bounds = Bounds(step, left, forced=step >= run.max_steps or left <= 0)
        submit = submit_spec(schema) if schema is not None else None
        asked = request(run.setting, bounds, run.history, submit)
        await faults.point("turn.model_call")
        said = await speak(run.provider, asked, run.channel, run.lease.fence, self._policy.patience)
        await faults.point("turn.model_answered")
        if bounds.forced and submit is None and said.answer.tool_calls:
            answer = replace(said.answer, tool_calls=(), native=None)  # they were not on offer
            said = replace(said, answer=answer)
        end: StopReason | None = None
        if not said.answer.tool_calls and not _asks_again(run, step):
            end = StopReason.STEP_LIMIT if bounds.forced else said.answer.stop_reason
        turn = replace(run.turn, model=run.setting.model.name, background=run.setting.background)
        _moved(run, *await self._journal.step(run.pen, turn, step, said, end))
        await faults.point("turn.step_stored")

    async def _run_tools(self, run: _Run, asking: Message) -> None:
        """Run the tool calls of a stored step and store their results."""
        work = await self._work(run.lease, run.session, run.turn)
        done = await self._rounds.run(work, run.turn, asking.tool_calls, run.granted)
        end: StopReason | None = None
        if done.result is not None:
            end = StopReason.END
        elif asking.step >= run.max_steps:
            end = StopReason.STEP_LIMIT
        _moved(run, *await self._journal.results(run.pen, run.turn, asking, done, end))
        await faults.point("turn.results_stored")


def _moved(run: _Run, turn: Turn, message: Message) -> None:
    run.history.append(message)
    run.turn = turn
    run.channel.stored()


def _asks_again(run: _Run, step: int) -> bool:
    """Tell whether an answer without the result that was asked for gets one reminder."""
    reminded = run.history[-1].role is Role.ASSISTANT
    return run.turn.result_schema is not None and not reminded and step < run.max_steps


class _Overdue(DeadlineExceeded):
    """The turn's time is over; trying again does not help."""


def _verdict(error: Exception, attempt: int, policy: Policy) -> DomainError | None:
    """Return why a turn fails, None where the whole turn is worth another attempt."""
    if not isinstance(error, DomainError):
        return Internal("internal error") if attempt >= policy.attempts_at_faults else None
    own = error.reason in ("MODEL_FAILED", "MODEL_REFUSED", "MODEL_NOT_CONFIGURED")
    transient = isinstance(error, Unavailable | DeadlineExceeded | Aborted | ResourceExhausted)
    if own or isinstance(error, _Overdue) or not (transient or isinstance(error, Internal)):
        return error
    return error if attempt >= policy.attempts else None
