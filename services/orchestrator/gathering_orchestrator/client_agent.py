"""The agent service: who agents are, what they say, and their turns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC

from google.protobuf.json_format import MessageToDict

from gathering.agent.v1 import (
    agent_pb2,
    agent_service_pb2,
    agent_service_pb2_grpc,
    budget_pb2,
    budget_service_pb2,
    budget_service_pb2_grpc,
    session_service_pb2,
    session_service_pb2_grpc,
    turn_pb2,
    turn_service_pb2,
    turn_service_pb2_grpc,
)
from gathering_mesh.call import Call
from gathering_mesh.client import Channels, peer
from gathering_orchestrator.circles.models import Agent, Competence
from gathering_orchestrator.ports import Answer
from gathering_orchestrator.tasks.models import Caps, Json, TurnEnd
from gathering_orchestrator.tasks.models_states import TurnOutcome

_PEER = "agent"
_STRENGTH = 0.8  # of a competence that names none, as the contract says
_MOST_OPEN_TASKS = 1000  # that an offer may name
_OUTCOMES = {
    turn_pb2.TURN_STATE_COMPLETED: TurnOutcome.COMPLETED,
    turn_pb2.TURN_STATE_FAILED: TurnOutcome.FAILED,
    turn_pb2.TURN_STATE_CANCELLED: TurnOutcome.CANCELLED,
}


class AgentClient:
    """See `ports.Agents`, `ports.AgentTurns` and `ports.Budgets`."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        channel = channels.to(_PEER)
        self._agents = agent_service_pb2_grpc.AgentServiceStub(channel)
        self._sessions = session_service_pb2_grpc.SessionServiceStub(channel)
        self._budgets = budget_service_pb2_grpc.BudgetServiceStub(channel)
        self._turns = turn_service_pb2_grpc.TurnServiceStub(channel)

    async def get(self, call: Call, agent_id: str) -> Agent:
        """Return an agent; NotFound."""
        request = agent_service_pb2.GetAgentRequest(agent_id=agent_id)
        with peer(_PEER):
            return _agent(await self._agents.GetAgent(request, **self._channels.outgoing(call)))

    async def consider(
        self,
        call: Call,
        *,
        agent_id: str,
        task_id: str,
        title: str,
        required_competences: Sequence[str],
        open_task_ids: Sequence[str],
    ) -> Answer:
        """Ask an agent whether it takes a task; NotFound."""
        request = agent_service_pb2.ConsiderOfferRequest(
            agent_id=agent_id,
            task_id=task_id,
            title=title,
            required_competences=required_competences,
            open_task_ids=open_task_ids[:_MOST_OPEN_TASKS],
        )
        with peer(_PEER):
            said = await self._agents.ConsiderOffer(request, **self._channels.outgoing(call))
        return Answer(said.accepted, said.reason, said.message)

    async def open_session(
        self, call: Call, *, request_id: str, agent_id: str, title: str, workspace_id: str
    ) -> str:
        """Create a session and return its id; NotFound, FailedPrecondition (archived)."""
        request = session_service_pb2.CreateSessionRequest(
            request_id=request_id, agent_id=agent_id, title=title, workspace_id=workspace_id
        )
        with peer(_PEER):
            made = await self._sessions.CreateSession(request, **self._channels.outgoing(call))
        return made.session_id

    async def start(
        self,
        call: Call,
        *,
        request_id: str,
        session_id: str,
        task_id: str,
        text: str,
        max_tool_calls: int,
        result_schema: Json,
    ) -> str:
        """Start a turn and return its id."""
        request = turn_service_pb2.StartTurnRequest(
            request_id=request_id,
            session_id=session_id,
            text=text,
            task_id=task_id,
            limits=turn_pb2.TurnLimits(max_tool_calls=max_tool_calls),
        )
        request.result_schema.update(dict(result_schema))
        with peer(_PEER):
            return (await self._turns.StartTurn(request, **self._channels.outgoing(call))).turn_id

    async def read(self, call: Call, turn_id: str) -> tuple[TurnOutcome | None, TurnEnd]:
        """Return how a turn ended (None: it goes on) and what came of it."""
        request = turn_service_pb2.GetTurnRequest(turn_id=turn_id)
        with peer(_PEER):
            turn = await self._turns.GetTurn(request, **self._channels.outgoing(call))
        result = MessageToDict(turn.result) if turn.HasField("result") else None
        return _OUTCOMES.get(turn.state), TurnEnd(
            text=turn.text,
            result=result,
            refused=turn.stop_reason == turn_pb2.STOP_REASON_REFUSAL,
            failure=turn.error_message or turn.error_reason,
        )

    async def cancel(self, call: Call, turn_id: str) -> None:
        """Cancel a turn that has not ended."""
        request = turn_service_pb2.CancelTurnRequest(turn_id=turn_id)
        with peer(_PEER):
            await self._turns.CancelTurn(request, **self._channels.outgoing(call))

    async def set(self, call: Call, task_id: str, caps: Caps, parent_task_id: str) -> None:
        """Bound a task, which draws on its parent's budget as well, if it has a parent."""
        request = budget_service_pb2.SetBudgetRequest(
            request_id=f"{task_id}:budget",
            level=budget_pb2.BUDGET_LEVEL_TASK,
            subject_id=task_id,
            caps=budget_pb2.BudgetCaps(
                max_tokens=caps.tokens, max_cost_micro_usd=caps.cost, max_model_calls=caps.calls
            ),
            parent_task_id=parent_task_id,
        )
        if caps.wall_time is not None:
            request.caps.max_wall_time.FromTimedelta(caps.wall_time)
        with peer(_PEER):
            await self._budgets.SetBudget(request, **self._channels.outgoing(call))

    async def newest(self, call: Call, session_id: str) -> str:
        """Return the id of the newest turn of a session, empty if it has none."""
        request = turn_service_pb2.ListTurnsRequest(session_id=session_id, page_size=1)
        with peer(_PEER):
            page = await self._turns.ListTurns(request, **self._channels.outgoing(call))
        return page.turns[0].turn_id if page.turns else ""


def _agent(found: agent_pb2.Agent) -> Agent:
    return Agent(
        agent_id=found.agent_id,
        name=found.name,
        competences=tuple(
            Competence(one.name, one.strength if one.HasField("strength") else _STRENGTH)
            for one in found.competences
        ),
        archived=found.state == agent_pb2.AGENT_STATE_ARCHIVED,
        max_concurrent_tasks=found.max_concurrent_tasks or 1,
        update_time=found.update_time.ToDatetime(UTC),
    )
