"""What a turn does: a model call, its tool calls, again, until it is done.

The conversation is the journal. A step is stored before it is acted on, so where a turn stands is
what its last message says: a request or tool results ask for a model call, tool calls ask to be
run, and whoever holds the lease goes on from there. Names of tool calls follow from their place.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from gathering_agent.budgets.models import Budget
from gathering_agent.budgets.spending import Spending, in_time
from gathering_agent.context.condensing import Condensing
from gathering_agent.context.context import Bounds, Setting, request
from gathering_agent.context.reading import tail
from gathering_agent.context.showing import shown
from gathering_agent.errors import AwaitsApproval, Overdue
from gathering_agent.models import (
    Message,
    Role,
    Session,
    StopReason,
    Turn,
    TurnState,
)
from gathering_agent.ports import GrantedTool
from gathering_agent.providers.lines import Lines
from gathering_agent.providers.models_catalogue import Model
from gathering_agent.providers.models_dialogue import ModelRequest
from gathering_agent.providers.speaking import Speaker
from gathering_agent.remembering.worth import worth_looking
from gathering_agent.streams.live import Channel, Known, Live
from gathering_agent.turns.inquiry import Asking, Inquiry, Opened, Peers
from gathering_agent.turns.journal import Journal, Moved, Pen
from gathering_agent.turns.own_tools import OwnTools, submit_spec
from gathering_agent.turns.policy import Policy, verdict
from gathering_agent.turns.repeating import Repeating
from gathering_agent.turns.tool_round import ToolRounds
from gathering_agent.turns.waiting import next_look
from gathering_mesh import faults
from gathering_mesh.lease import HandOver, Lease, LeaseLost
from gathering_mesh.postgres import Transaction

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Run:
    """A turn in the hands of a worker."""

    lease: Lease
    channel: Channel
    session: Session
    setting: Setting
    granted: dict[str, GrantedTool]
    history: list[Message]
    turn: Turn
    pen: Pen
    budgets: tuple[Budget, ...]
    repeating: Repeating

    @property
    def max_steps(self) -> int:
        limit = self.setting.agent.step_limit
        return min(self.turn.limits.max_steps or limit, limit)


class Running:
    """Runs turns; one call of `run` per lease."""

    def __init__(
        self, journal: Journal, lines: Lines, peers: Peers, live: Live, policy: Policy
    ) -> None:
        self._rows = journal.rows
        self._lines = lines
        self._live = live
        self._policy = policy
        self._own = OwnTools(peers.memories)
        self.inquiry = Inquiry(peers, policy, self._own)
        self._rounds = ToolRounds(self._own, peers.skills)
        self._journal = journal
        self._condensing = Condensing(journal, lines, policy)

    async def run(
        self, lease: Lease, opened: Opened | None = None, asking: Asking | None = None
    ) -> None:
        """Bring a turn to its end, or until it is cancelled or the lease is lost.

        `opened`: what was stored of it in the transaction that took the lease; else it is read.
        `asking`: what is asked for it already; it ends with this.
        """
        with self._live.running(lease.id) as channel:
            job = asyncio.create_task(self._job(lease, channel, opened, asking))
            stop = asyncio.create_task(channel.cancelled.wait())
            try:
                await asyncio.wait({job, stop}, return_when=asyncio.FIRST_COMPLETED)
                if job.done():
                    job.result()
            finally:
                parts = {job, stop, *([asking] if asking else [])}
                for part in parts:
                    part.cancel()
                await asyncio.wait(parts)  # cancelled meanwhile, the job still notes what it used

    async def _job(
        self, lease: Lease, channel: Channel, opened: Opened | None, asking: Asking | None
    ) -> None:
        try:
            opened = opened or await self._open(lease)
            if opened is None:
                return
            if opened.turn.start_time is not None:
                channel.stored()  # whoever watched it wait
            lease.due_by = self._end(opened.turn)
            async with self._until(lease.due_by):
                run = await self._prepare(lease, channel, opened, asking)
                while not run.turn.ended:
                    await self._advance(run)
        except (HandOver, LeaseLost):
            raise
        except AwaitsApproval:
            await self._look_again(lease)
        except Exception as error:
            end = verdict(error, lease.attempt, self._policy)
            if end is None:
                raise
            _log.warning("turn %s failed", lease.id, exc_info=error)
            await self._journal.fail(Pen(lease), end)
            channel.stored()

    def _end(self, turn: Turn) -> datetime:
        """Return when a turn's time is over."""
        began = turn.start_time or turn.create_time
        end = began + timedelta(seconds=self._policy.turn_seconds)
        return end if turn.deadline is None else min(end, turn.deadline)

    @asynccontextmanager
    async def _until(self, end: datetime) -> AsyncIterator[None]:
        """Cut a turn when its time is over; Overdue."""
        bound = asyncio.timeout(max(0.0, (end - datetime.now(UTC)).total_seconds()))
        try:
            async with bound:
                yield
        except TimeoutError as error:
            if not bound.expired():
                raise
            raise Overdue("the turn took too long") from error

    async def _look_again(self, lease: Lease) -> None:
        """Leave a turn that waits for a person to whoever claims it in a while."""
        async with lease.transaction() as tx:
            await lease.again(tx, timedelta(seconds=self._policy.approval_seconds))

    # --- Where it stands ------------------------------------------------------------------------

    async def _open(self, lease: Lease) -> Opened | None:
        """Read what is stored; None if the turn has ended, or still waits for its session."""
        async with lease.transaction() as tx:
            turn = await self._rows.turns.get(tx, lease.id, lock=True)
            if turn.ended:
                await lease.done(tx)
                return None
            if turn.state is not TurnState.WAITING:
                return await self._opened(tx, turn)
            if turn.deadline is not None and turn.deadline <= datetime.now(UTC):
                raise Overdue("the turns before it took too long")
            await lease.again(tx, next_look(turn))
        await self._journal.relieve(lease.tenant, turn.session_id)
        return None

    async def _opened(self, tx: Transaction, turn: Turn) -> Opened:
        session = await self._rows.sessions.get(tx, turn.session_id)
        agent = await self._rows.agents.get(tx, turn.agent_id)
        if agent.definition != turn.agent_version and turn.agent_version:
            fields = await self._rows.versions.fields(tx, agent.id, turn.agent_version)
            agent = replace(agent, fields=fields)
        digest, history = await tail(self._rows, tx, session, turn.id)
        budgets = await self._journal.budgets(tx, turn)
        if turn.state is TurnState.QUEUED:
            turn = replace(turn, state=TurnState.RUNNING)
            await self._rows.turns.update(tx, turn)
        else:  # it was held before: nobody else will say what came of its calls
            await self._rows.attempts.settle_lost(tx, turn.id)
            turn = await self._rows.turns.get(tx, turn.id)
        return Opened(turn, session, agent, history, budgets, digest)

    async def _prepare(
        self, lease: Lease, channel: Channel, opened: Opened, asking: Asking | None
    ) -> _Run:
        """Put together what the turn needs."""
        turn, session, history = opened.turn, opened.session, opened.history
        model, *_ = self._lines.catalogue.chain(opened.agent.fields)
        told = await (asking or self.inquiry.begin(lease.tenant, opened))
        own = self._own.offered(opened.agent.fields.memory_policy)
        tools = (*own, *(tool.spec for tool in told.granted.values()))
        workspace = bool(session.workspace_id)
        setting = Setting(
            opened.agent, turn, told.background, model, tools, workspace, opened.digest
        )
        pen = Pen(lease, told.work.call, worth_looking(opened.agent.fields, turn, history))
        said = (message for message in history if message.turn_id == turn.id)
        run = _Run(
            lease, channel, session, setting, told.granted, history, turn, pen,
            opened.budgets, Repeating(self._policy.tolerance, said),
        )  # fmt: skip
        await self._condensing.prepare(run)
        return run

    # --- Onwards --------------------------------------------------------------------------------

    async def _advance(self, run: _Run) -> None:
        if run.lease.draining:
            raise HandOver
        last = run.history[-1]
        if last.role is Role.ASSISTANT and last.tool_calls:
            await self._run_tools(run, last)
        else:
            await self._step(run, last.step + 1)

    async def _step(self, run: _Run, step: int) -> None:
        """Call the model and store what it said."""
        schema = run.turn.result_schema
        left = run.turn.tool_limit - run.turn.usage.tool_calls
        over = run.repeating.over
        bounds = Bounds(step, left, forced=step >= run.max_steps or left <= 0 or over)
        submit = submit_spec(schema) if schema is not None else None
        spending = Spending(self._journal, run, self._policy.budget_seconds)
        speaker = Speaker(
            self._lines.of(run.lease.tenant), run.channel, self._policy.patience, spending
        )
        chain = self._lines.catalogue.chain(run.setting.agent.fields, run.turn.model)

        def ask(model: Model) -> ModelRequest:
            history = shown(run.history, model)
            return request(replace(run.setting, model=model), bounds, history, submit)

        said = await speaker.speak(chain, ask, run.lease.fence)
        await faults.point("turn.model_answered")
        if bounds.forced and submit is None and said.answer.tool_calls:
            answer = replace(said.answer, tool_calls=(), native=None)  # they were not on offer
            said = replace(said, answer=answer)
        end: StopReason | None = None
        if not said.answer.tool_calls and not _asks_again(run, step):
            bound = StopReason.LOOP if over else StopReason.STEP_LIMIT
            end = bound if bounds.forced else said.answer.stop_reason
        turn = replace(run.turn, model=said.begun.model.name, background=run.setting.background)
        try:
            moved = await self._journal.step(run.pen, turn, said, end)
        except LeaseLost:
            await spending.failed(said.begun.answered(said.answer, "LEASE_LOST"))
            raise
        _moved(run, moved)
        await faults.point("turn.step_stored")

    async def _run_tools(self, run: _Run, asking: Message) -> None:
        """Run the tool calls of a stored step and store their results."""
        work = await self.inquiry.work(run.lease.tenant, run.session, run.turn)
        offered = frozenset(tool.name for tool in run.setting.tools)
        async with in_time(run.budgets):
            done = await self._rounds.run(
                work,
                run.turn,
                asking.tool_calls,
                run.granted,
                offered,
                in_vain=run.repeating.in_vain(asking.tool_calls),
                tell=run.channel.tell,
            )
        end: StopReason | None = None
        if done.result is not None:
            end = StopReason.END
        elif run.repeating.over:  # it was asked to answer without tools
            end = StopReason.LOOP
        elif asking.step >= run.max_steps:
            end = StopReason.STEP_LIMIT
        _moved(run, await self._journal.results(run.pen, run.turn, asking, done, end))
        run.repeating.take(asking.tool_calls, done.results)
        await faults.point("turn.results_stored")


def _moved(run: _Run, moved: Moved) -> None:
    run.history.append(moved.message)
    run.turn = moved.turn
    run.budgets = run.budgets if moved.budgets is None else moved.budgets
    messages = tuple(one for one in run.history if one.turn_id == run.turn.id)
    run.channel.stored(Known(run.turn, messages))


def _asks_again(run: _Run, step: int) -> bool:
    """Tell whether an answer without the result that was asked for gets one reminder."""
    reminded = run.history[-1].role is Role.ASSISTANT
    return run.turn.result_schema is not None and not reminded and step < run.max_steps
