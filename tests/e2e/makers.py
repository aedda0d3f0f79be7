"""Makes what a test needs in one tenant.

Every text of a maker holds its canary, so that one tenant's texts are known when they turn up where
they should not.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.struct_pb2 import Struct

from gathering.agent.v1 import (
    agent_pb2,
    agent_service_pb2,
    budget_pb2,
    budget_service_pb2,
    model_service_pb2,
    session_service_pb2,
    turn_service_pb2,
)
from gathering.gateway.v1 import auth_pb2, auth_service_pb2, invitation_service_pb2
from gathering.memory.v1 import memory_pb2, memory_service_pb2
from gathering.orchestrator.v1 import (
    circle_pb2,
    circle_service_pb2,
    task_pb2,
    task_service_pb2,
)
from gathering.skills.v1 import (
    execution_pb2,
    execution_service_pb2,
    skill_pb2,
    skill_service_pb2,
    workspace_service_pb2,
)
from gathering_client import Gathering
from gathering_client.streams import follow_events, follow_task

PRIVATE = memory_pb2.Scope(kind=memory_pb2.SCOPE_KIND_PRIVATE)
TENANT = memory_pb2.Scope(kind=memory_pb2.SCOPE_KIND_TENANT)
SECRET_FILE = "secret.txt"
_ESCALATED = task_pb2.TASK_STATE_ESCALATED


def struct(**values: Any) -> Struct:
    """Return JSON as it travels."""
    made = Struct()
    made.update(values)
    return made


@dataclass(frozen=True)
class Maker:
    """Makes objects in one tenant; `folder` is a directory that may become a workspace."""

    mesh: Gathering
    folder: str
    canary: str = field(default_factory=lambda: f"canary{uuid.uuid4().hex}")

    def text(self, what: str = "text") -> str:
        """Return a text that is not like any other and holds the canary."""
        return f"{what} {self.canary} {uuid.uuid4().hex[:8]}"

    def described(self) -> agent_pb2.Agent:
        """Return an agent to create."""
        persona = agent_pb2.Persona(role=self.text("role"), base_prompt=self.text("prompt"))
        return agent_pb2.Agent(name=self.text("agent"), persona=persona)

    async def agent(self) -> str:
        """Return a new agent's id."""
        request = agent_service_pb2.CreateAgentRequest(agent=self.described())
        return (await self.mesh.agents.CreateAgent(request)).agent_id

    def keyed(self) -> model_service_pb2.SetProviderKeyRequest:
        """Return a key of a provider to set."""
        key = f"sk-{self.canary}-{uuid.uuid4().hex[:4]}"
        return model_service_pb2.SetProviderKeyRequest(provider="anthropic", key=key)

    async def provider_key(self) -> str:
        """Return the id of the tenant's key of a provider."""
        return (await self.mesh.models.SetProviderKey(self.keyed())).provider_key_id

    async def session(self) -> str:
        """Return a new session's id."""
        request = session_service_pb2.CreateSessionRequest(
            agent_id=await self.agent(), title=self.text("title")
        )
        return (await self.mesh.sessions.CreateSession(request)).session_id

    def capped(self, session_id: str) -> budget_service_pb2.SetBudgetRequest:
        """Return a budget to set, which is wide."""
        return budget_service_pb2.SetBudgetRequest(
            level=budget_pb2.BUDGET_LEVEL_SESSION,
            subject_id=session_id,
            caps=budget_pb2.BudgetCaps(max_tokens=10**9),
        )

    async def budget(self) -> str:
        """Return the id of a new session's budget."""
        request = self.capped(await self.session())
        return (await self.mesh.budgets.SetBudget(request)).budget_id

    async def turn(self) -> str:
        """Return the id of a turn that has ended."""
        request = turn_service_pb2.ChatRequest(
            session_id=await self.session(), text=self.text("say hello")
        )
        return (await self.mesh.turns.Chat(request)).turn_id

    async def memory(self) -> str:
        """Return the id of a memory of the user."""
        request = memory_service_pb2.RememberRequest(text=self.text("fact"), scope=PRIVATE)
        return (await self.mesh.memories.Remember(request)).memory_id

    async def workspace(self) -> str:
        """Return the id of the folder as a workspace."""
        request = workspace_service_pb2.CreateWorkspaceRequest(
            path=self.folder, display_name=self.text("workspace")
        )
        return (await self.mesh.workspaces.CreateWorkspace(request)).workspace_id

    async def grant(self) -> str:
        """Return the id of a grant."""
        request = skill_service_pb2.CreateGrantRequest(
            agent_id=await self.agent(), skill="filesystem"
        )
        return (await self.mesh.skills.CreateGrant(request)).grant_id

    async def execution(self) -> str:
        """Return the id of an execution that has ended."""
        return (await self.mesh.executions.Execute(await self.tool_call())).execution_id

    async def found(self) -> str:
        """Return the id of an execution that told what it found: the canary of the folder."""
        request = execution_service_pb2.ExecuteRequest(
            request_id=uuid.uuid4().hex,
            tool="search_text",
            arguments=struct(pattern="."),
            workspace_id=await self.workspace(),
        )
        return (await self.mesh.executions.Execute(request)).execution_id

    async def tool_call(self) -> execution_service_pb2.ExecuteRequest:
        """Return the call of a tool that reads."""
        return execution_service_pb2.ExecuteRequest(
            request_id=uuid.uuid4().hex,
            tool="fs_read",
            arguments=struct(path=SECRET_FILE),
            workspace_id=await self.workspace(),
        )

    async def question(self) -> execution_pb2.Execution:
        """Return an execution that awaits approval: an agent may read when it was asked."""
        agent_id = await self.agent()
        read = [skill_pb2.PERMISSION_READ]
        grant = skill_service_pb2.CreateGrantRequest(
            agent_id=agent_id, skill="filesystem", permissions=read, ask_permissions=read
        )
        await self.mesh.skills.CreateGrant(grant)
        session = session_service_pb2.CreateSessionRequest(
            agent_id=agent_id, workspace_id=await self.workspace(), title=self.text("title")
        )
        session_id = (await self.mesh.sessions.CreateSession(session)).session_id
        turn = turn_service_pb2.StartTurnRequest(session_id=session_id, text=f"read {SECRET_FILE}")
        turn_id = (await self.mesh.turns.StartTurn(turn)).turn_id
        asked = execution_service_pb2.ListExecutionsRequest(
            turn_id=turn_id, state=execution_pb2.EXECUTION_STATE_AWAITING_APPROVAL
        )
        while True:
            page = await self.mesh.executions.ListExecutions(asked)
            for execution in page.executions:
                return execution
            found = await self.mesh.turns.GetTurn(turn_service_pb2.GetTurnRequest(turn_id=turn_id))
            assert not found.HasField("end_time"), found
            await asyncio.sleep(0.2)

    async def decision(self) -> execution_service_pb2.ApproveExecutionRequest:
        """Return a yes to a question of its own."""
        asked = await self.question()
        return execution_service_pb2.ApproveExecutionRequest(
            execution_id=asked.execution_id, digest=asked.approval.digest
        )

    async def denial(self) -> execution_service_pb2.DenyExecutionRequest:
        """Return a no to a question of its own."""
        asked = await self.question()
        return execution_service_pb2.DenyExecutionRequest(
            execution_id=asked.execution_id, digest=asked.approval.digest
        )

    async def circle(self, *members: circle_pb2.Member) -> str:
        """Return a new circle's id."""
        request = circle_service_pb2.CreateCircleRequest(
            circle=circle_pb2.Circle(
                name=self.text("circle"), purpose=self.text("purpose"), requires_review=False
            ),
            members=members,
        )
        return (await self.mesh.circles.CreateCircle(request)).circle_id

    async def member(self) -> circle_pb2.Member:
        """Return a new agent as a member whose decisions a client of its own makes."""
        return circle_pb2.Member(agent_id=await self.agent(), mode=circle_pb2.MEMBER_MODE_EXTERNAL)

    async def task(self, *members: circle_pb2.Member) -> str:
        """Return a new task's id."""
        request = self.task_for(await self.circle(*members))
        return (await self.mesh.tasks.CreateTask(request)).task_id

    def task_for(self, circle_id: str) -> task_service_pb2.CreateTaskRequest:
        """Return a task to create."""
        return task_service_pb2.CreateTaskRequest(
            circle_id=circle_id,
            title=self.text("title"),
            description=self.text("description"),
            acceptance_criteria=[self.text("criterion")],
        )

    async def offer(self) -> tuple[str, str]:
        """Return the ids of a task and of its open offer to an external member."""
        task_id = await self.task(await self.member())
        offered = await self._until(task_id, lambda task: any(o.state == 1 for o in task.offers))
        return task_id, offered.offers[-1].offer_id

    async def accepted(self) -> str:
        """Return the id of a task that an external member has accepted."""
        task_id, offer_id = await self.offer()
        await self.mesh.tasks.AcceptOffer(
            task_service_pb2.AcceptOfferRequest(task_id=task_id, offer_id=offer_id)
        )
        return task_id

    async def escalated(self) -> str:
        """Return the id of a task that waits for a human: its circle has nobody."""
        task_id = await self.task()
        await self._until(task_id, lambda task: task.state == _ESCALATED)
        return task_id

    async def _until(self, task_id: str, holds: Callable[[task_pb2.Task], bool]) -> task_pb2.Task:
        async for task in follow_task(self.mesh, task_id):
            if holds(task):
                return task
        raise AssertionError(f"task {task_id} ended first")

    async def delegation(self) -> str:
        """Return the id of a delegation, as the feed tells it."""
        turn_id = await self.turn()
        events = follow_events(self.mesh, cursor="start", types=["delegation_created"])
        async for followed in events:
            if followed.event is not None:
                return str(followed.event.delegation_created.delegation_id)
        raise AssertionError(f"no delegation for {turn_id}")

    async def user(self) -> str:
        """Return a new member's id."""
        request = auth_service_pb2.CreateUserRequest(
            email=f"{uuid.uuid4().hex}@{self.canary}.example",
            password="correct horse battery",
            display_name=self.text("user"),
            role=auth_pb2.ROLE_MEMBER,
        )
        return (await self.mesh.auth.CreateUser(request)).user_id

    async def invitation(self) -> str:
        """Return a new invitation's id."""
        request = invitation_service_pb2.CreateInvitationRequest(
            email=f"{uuid.uuid4().hex}@{self.canary}.example",
            display_name=self.text("guest"),
            role=auth_pb2.ROLE_MEMBER,
        )
        made = await self.mesh.invitations.CreateInvitation(request)
        return made.invitation.invitation_id

    async def api_key(self) -> auth_service_pb2.CreateApiKeyResponse:
        """Return a new API key with its secret."""
        request = auth_service_pb2.CreateApiKeyRequest(display_name=self.text("key"))
        return await self.mesh.auth.CreateApiKey(request)
