"""Have an accepted task worked on, round by round, and take the work in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gathering_mesh import faults
from gathering_mesh.call import Call
from gathering_mesh.errors import InvalidArgument
from gathering_mesh.postgres import Database, Transaction
from gathering_mesh.work import Lease
from gathering_orchestrator.circles.models import MemberMode
from gathering_orchestrator.errors import WrongState
from gathering_orchestrator.events import TaskSubmitted
from gathering_orchestrator.ports import Permits, Workspaces
from gathering_orchestrator.tasks import prompts
from gathering_orchestrator.tasks.models import Artifact, Task, Turn, TurnEnd
from gathering_orchestrator.tasks.models_reviewers import last_given
from gathering_orchestrator.tasks.models_states import Escalation, TaskState, TurnOutcome
from gathering_orchestrator.tasks.moves import Moves
from gathering_orchestrator.tasks.ports import (
    ArtifactStore,
    Clock,
    ReviewStore,
    TaskStore,
    TurnStore,
)
from gathering_orchestrator.tasks.turns import TurnRefused, Turns
from gathering_orchestrator.tasks.verdicts import storable

_LONGEST_SUMMARY = 20_000


@dataclass(frozen=True, slots=True)
class Work:
    """The steps of a task that an agent has accepted."""

    db: Database
    clock: Clock
    tasks: TaskStore
    reviews: ReviewStore
    artifacts: ArtifactStore
    turn_rows: TurnStore
    turns: Turns
    moves: Moves
    workspaces: Workspaces
    permits: Permits

    async def step(self, lease: Lease, seen: Task) -> None:
        """Start the round, look after its turn, or take in what it made."""
        if seen.assigned_mode is MemberMode.EXTERNAL:
            return await self._rest(lease, seen)  # it hands in by SubmitWork
        call = await self.permits.call(lease.tenant, seen.delegation_id, seen.trace)
        try:
            await self._advance(lease, call, seen)
        except TurnRefused as refusal:
            await self.turns.forget(lease.tenant, seen.task_id, str(refusal))
            await self._give_up(lease, seen, str(refusal))

    async def _advance(self, lease: Lease, call: Call, seen: Task) -> None:
        round = max(seen.round, 1)
        key = f"{seen.task_id}:work:{round}"
        async with self.db.transaction(lease.tenant) as tx:
            turn = await self.turn_rows.get(tx, key)
        if turn is None:
            return await self._prepare(lease, call, seen, round, key)
        if not turn.acknowledged:
            return await self._start(lease, call, seen, round, turn)
        outcome = await self.turns.outcome(call, lease.tenant, turn)
        if outcome is None:
            return await self._rest(lease, seen, check=True)
        if outcome is not TurnOutcome.COMPLETED:
            end = await self.turns.result(call, turn)
            why = end.failure or turn.reason
            message = f"the turn was {outcome.lower()}{f': {why}' if why else ''}"
            return await self._give_up(lease, seen, message)
        return await self._take_in(lease, call, seen, await self.turns.result(call, turn))

    async def _prepare(self, lease: Lease, call: Call, seen: Task, round: int, key: str) -> None:
        session_id = seen.session_id or await self.turns.open_session(
            call, seen, f"{seen.task_id}:work", seen.assigned_agent_id, "Task"
        )
        async with lease.transaction() as tx:
            task = await self.moves.unchanged(tx, seen)
            earlier = last_given(await self.reviews.of_task(tx, task.task_id))
            prompt = prompts.work(task, round, earlier)
            await self.turns.prepare(
                tx,
                task,
                key=key,
                agent_id=task.assigned_agent_id,
                session_id=session_id,
                prompt=prompt,
            )
            if not task.session_id:
                await self.tasks.save(tx, task, replace(task, session_id=session_id))
            await lease.again(tx, None)

    async def _start(self, lease: Lease, call: Call, seen: Task, round: int, turn: Turn) -> None:
        turn = await self.turns.start(call, seen, turn, prompts.WORK_SCHEMA)
        async with lease.transaction() as tx:
            # Also for a task that was cancelled meanwhile: the id is needed to cancel the turn.
            await self.turn_rows.acknowledge(tx, turn.key, turn.turn_id)
            task = await self.tasks.lock(tx, seen.task_id)
            if task.version == seen.version:
                await self.moves.started(tx, task, round, turn.turn_id)
            await lease.again(tx, None)

    async def _take_in(self, lease: Lease, call: Call, seen: Task, end: TurnEnd) -> None:
        summary = _summary(end)
        if end.refused or not summary:
            message = "the model refused to answer" if end.refused else "nothing was handed in"
            await self._give_up(lease, seen, message)
            return
        made: tuple[Artifact, ...] = ()
        if seen.fields.workspace_id:
            made = await self.workspaces.artifacts(call, seen.task_id, seen.assigned_agent_id)
        await faults.point("task.artifacts_read")
        async with lease.transaction() as tx:
            task = await self.moves.unchanged(tx, seen)
            await self._submitted(tx, task, summary, made)
            await lease.again(tx, None)

    async def _give_up(self, lease: Lease, seen: Task, message: str) -> None:
        async with lease.transaction() as tx:
            task = await self.moves.unchanged(tx, seen)
            await self.moves.escalated(tx, task, Escalation.WORK_FAILED, message)
            await lease.done(tx)

    async def _rest(self, lease: Lease, seen: Task, *, check: bool = False) -> None:
        """Wait for the agent; an event or an RPC makes the work due again."""
        async with lease.transaction() as tx:
            await self.moves.unchanged(tx, seen)
            if check:
                await lease.again(tx, await self.clock.now(tx) + self.turns.check_every)
            else:
                await lease.done(tx)

    async def submit(
        self, call: Call, task_id: str, summary: str, artifacts: Sequence[Artifact]
    ) -> str:
        """Take in the work of an EXTERNAL member; return the task's id."""
        _check_paths([artifact.path for artifact in artifacts])
        async with self.db.mutation(call) as tx:
            if tx.replay is None:
                task = await self.moves.lock(tx, task_id)
                if task.assigned_mode is MemberMode.MANAGED:
                    raise WrongState("the mesh runs the turns of this agent itself", task.state)
                if task.state is not TaskState.RUNNING:
                    raise WrongState(f"the task is {task.state}, not worked on", task.state)
                await self._submitted(tx, task, summary, artifacts)
                tx.result = task_id
        return task_id

    async def _submitted(
        self, tx: Transaction, task: Task, summary: str, artifacts: Sequence[Artifact]
    ) -> None:
        ordered = sorted(artifacts, key=lambda one: one.path)
        await self.artifacts.put(tx, task.task_id, task.round, ordered)
        tx.emit(
            task.task_id,
            TaskSubmitted(
                task.task_id,
                task.fields.circle_id,
                task.assigned_agent_id,
                task.round,
                tuple(artifact.sha256 for artifact in ordered),
            ),
        )
        handed_in = replace(task, summary=summary, submitted_round=task.round)
        if task.fields.requires_review:
            await self.tasks.save(tx, task, replace(handed_in, state=TaskState.IN_REVIEW))
        else:
            await self.moves.completed(tx, await self.tasks.save(tx, task, handed_in))


def _check_paths(paths: Sequence[str]) -> None:
    if len(set(paths)) < len(paths):
        raise InvalidArgument("a path is given twice", fields={"artifacts": "a path twice"})
    for number, path in enumerate(paths):
        if path.startswith("/") or ".." in path.split("/"):
            raise InvalidArgument(
                "a path leads out of the workspace",
                fields={f"artifacts[{number}].path": "must be relative, without .."},
            )


def _summary(end: TurnEnd) -> str:
    """Return what the agent says of its work: as submitted, else its answer."""
    submitted = (end.result or {}).get("summary")
    text = submitted if isinstance(submitted, str) and submitted.strip() else end.text
    return storable(text.strip(), _LONGEST_SUMMARY)
