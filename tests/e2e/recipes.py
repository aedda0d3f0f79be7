"""A good request for each RPC that a user may call, with what it needs made just before."""

from __future__ import annotations

import uuid

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from gathering.gateway.v1 import audit_service_pb2 as audit
from gathering.gateway.v1 import auth_pb2
from gathering.gateway.v1 import auth_service_pb2 as auth
from gathering.gateway.v1 import event_service_pb2 as events
from gathering.gateway.v1 import invitation_service_pb2 as invitations
from gathering.gateway.v1 import user_service_pb2 as users
from gathering.memory.v1 import memory_service_pb2 as memories
from gathering.orchestrator.v1 import circle_pb2, task_pb2
from gathering.orchestrator.v1 import circle_service_pb2 as circles
from gathering.orchestrator.v1 import task_service_pb2 as tasks
from gathering.skills.v1 import execution_service_pb2 as executions
from gathering.skills.v1 import skill_service_pb2 as skills
from gathering.skills.v1 import workspace_service_pb2 as workspaces
from tests.e2e.makers import PRIVATE, SECRET_FILE, TENANT, Maker
from tests.e2e.recipes_agents import AGENT_RECIPES, Recipe, of

_ARTIFACT = task_pb2.TaskArtifact(path="report.md", sha256="0" * 64, size_bytes=1)
_NAME = FieldMask(paths=["name"])


async def _create_circle(m: Maker) -> Message:
    return circles.CreateCircleRequest(circle=circle_pb2.Circle(name=m.text("circle")))


async def _update_circle(m: Maker) -> Message:
    renamed = circle_pb2.Circle(name=m.text("renamed"))
    return circles.UpdateCircleRequest(
        circle_id=await m.circle(), circle=renamed, update_mask=_NAME
    )


async def _circle_with_member(m: Maker) -> str:
    return await m.circle(await m.member())


async def _circle_with_task(m: Maker) -> str:
    request = m.task_for(await m.circle())
    return (await m.mesh.tasks.CreateTask(request)).circle_id


async def _agent_with_grant(m: Maker) -> str:
    request = skills.CreateGrantRequest(agent_id=await m.agent(), skill="search")
    return (await m.mesh.skills.CreateGrant(request)).agent_id


async def _remove_member(m: Maker) -> Message:
    member = await m.member()
    return circles.RemoveMemberRequest(circle_id=await m.circle(member), agent_id=member.agent_id)


async def _create_task(m: Maker) -> Message:
    return m.task_for(await m.circle())


async def _ended_task(m: Maker) -> str:
    task_id = await m.task()
    await m.mesh.tasks.CancelTask(tasks.CancelTaskRequest(task_id=task_id))
    return task_id


async def _accept_offer(m: Maker) -> Message:
    task_id, offer_id = await m.offer()
    return tasks.AcceptOfferRequest(task_id=task_id, offer_id=offer_id)


async def _decline_offer(m: Maker) -> Message:
    task_id, offer_id = await m.offer()
    return tasks.DeclineOfferRequest(task_id=task_id, offer_id=offer_id, message=m.text("no"))


async def _submit_work(m: Maker) -> Message:
    return tasks.SubmitWorkRequest(
        task_id=await m.accepted(), summary=m.text("done"), artifacts=[_ARTIFACT]
    )


async def _submit_review(m: Maker) -> Message:
    return tasks.SubmitReviewRequest(
        task_id=await m.escalated(),
        verdict=task_pb2.REVIEW_VERDICT_REJECTED,
        comment=m.text("no"),
    )


async def _remember(m: Maker) -> Message:
    return memories.RememberRequest(text=m.text("fact"), scope=PRIVATE)


async def _recall(m: Maker) -> Message:
    await m.memory()
    return memories.RecallRequest(query=m.canary)


async def _list_memories(m: Maker) -> Message:
    await m.memory()
    return memories.ListMemoriesRequest()


async def _create_workspace(m: Maker) -> Message:
    return workspaces.CreateWorkspaceRequest(path=m.folder, display_name=m.text("workspace"))


async def _list_executions(m: Maker) -> Message:
    await m.execution()
    return executions.ListExecutionsRequest(workspace_id=await m.workspace())


async def _create_user(m: Maker) -> Message:
    return auth.CreateUserRequest(
        email=f"{uuid.uuid4().hex}@{m.canary}.example",
        password="correct horse battery",
        display_name=m.text("user"),
        role=auth_pb2.ROLE_MEMBER,
    )


async def _create_api_key(m: Maker) -> Message:
    return auth.CreateApiKeyRequest(display_name=m.text("key"))


async def _revoke_api_key(m: Maker) -> Message:
    return auth.RevokeApiKeyRequest(api_key_id=(await m.api_key()).api_key.api_key_id)


async def _list_api_keys(m: Maker) -> Message:
    await m.api_key()
    return auth.ListApiKeysRequest()


async def _create_invitation(m: Maker) -> Message:
    return invitations.CreateInvitationRequest(
        email=f"{uuid.uuid4().hex}@{m.canary}.example",
        display_name=m.text("guest"),
        role=auth_pb2.ROLE_MEMBER,
    )


async def _list_invitations(m: Maker) -> Message:
    await m.invitation()
    return invitations.ListInvitationsRequest()


async def _list_events(m: Maker) -> Message:
    chosen = events.EventFilter(subject_ids=[await m.agent()])
    return events.ListEventsRequest(filter=chosen)


async def _subscribe(m: Maker) -> Message:
    chosen = events.EventFilter(subject_ids=[await m.agent()])
    return events.SubscribeRequest(filter=chosen, cursor="start")


RECIPES: dict[str, Recipe] = {
    **AGENT_RECIPES,
    "CircleService.CreateCircle": _create_circle,
    "CircleService.GetCircle": of(circles.GetCircleRequest, circle_id=Maker.circle),
    "CircleService.ListCircles": of(circles.ListCirclesRequest),
    "CircleService.UpdateCircle": _update_circle,
    "CircleService.AddMember": of(
        circles.AddMemberRequest, circle_id=Maker.circle, member=Maker.member
    ),
    "CircleService.RemoveMember": _remove_member,
    "CircleService.ListMembers": of(circles.ListMembersRequest, circle_id=_circle_with_member),
    "TaskService.CreateTask": _create_task,
    "TaskService.GetTask": of(tasks.GetTaskRequest, task_id=Maker.task),
    "TaskService.ListTasks": of(tasks.ListTasksRequest, circle_id=_circle_with_task),
    "TaskService.WatchTask": of(tasks.WatchTaskRequest, task_id=_ended_task),
    "TaskService.CancelTask": of(tasks.CancelTaskRequest, task_id=Maker.task),
    "TaskService.AcceptOffer": _accept_offer,
    "TaskService.DeclineOffer": _decline_offer,
    "TaskService.SubmitWork": _submit_work,
    "TaskService.SubmitReview": _submit_review,
    "MemoryService.Remember": _remember,
    "MemoryService.Recall": _recall,
    "MemoryService.GetMemory": of(memories.GetMemoryRequest, memory_id=Maker.memory),
    "MemoryService.ListMemories": _list_memories,
    "MemoryService.ShareMemory": of(
        memories.ShareMemoryRequest, memory_id=Maker.memory, scope=TENANT
    ),
    "MemoryService.ForgetMemory": of(memories.ForgetMemoryRequest, memory_id=Maker.memory),
    "SkillService.ListSkills": of(skills.ListSkillsRequest),
    "SkillService.ListGrantedTools": of(skills.ListGrantedToolsRequest, agent_id=_agent_with_grant),
    "SkillService.CreateGrant": of(skills.CreateGrantRequest, agent_id=Maker.agent, skill="search"),
    "SkillService.ListGrants": of(skills.ListGrantsRequest, agent_id=_agent_with_grant),
    "SkillService.RevokeGrant": of(skills.RevokeGrantRequest, grant_id=Maker.grant),
    "ExecutionService.Execute": Maker.tool_call,
    "ExecutionService.GetExecution": of(
        executions.GetExecutionRequest, execution_id=Maker.execution
    ),
    "ExecutionService.ListExecutions": _list_executions,
    "ExecutionService.ReadExecutionOutput": of(
        executions.ReadExecutionOutputRequest, execution_id=Maker.found
    ),
    "ExecutionService.WatchExecution": of(
        executions.WatchExecutionRequest, execution_id=Maker.found, follow_output=True
    ),
    "ExecutionService.ApproveExecution": Maker.decision,
    "ExecutionService.DenyExecution": Maker.denial,
    "ExecutionService.CancelExecution": of(
        executions.CancelExecutionRequest, execution_id=Maker.execution
    ),
    "WorkspaceService.CreateWorkspace": _create_workspace,
    "WorkspaceService.GetWorkspace": of(
        workspaces.GetWorkspaceRequest, workspace_id=Maker.workspace
    ),
    "WorkspaceService.GetProjectContext": of(
        workspaces.GetProjectContextRequest, workspace_id=Maker.workspace
    ),
    "WorkspaceService.ListWorkspaces": of(workspaces.ListWorkspacesRequest),
    "WorkspaceService.ReadFile": of(
        workspaces.ReadFileRequest, workspace_id=Maker.workspace, path=SECRET_FILE
    ),
    "AuthService.GetMe": of(auth.GetMeRequest),
    "AuthService.CreateUser": _create_user,
    "AuthService.ListUsers": of(auth.ListUsersRequest),
    "AuthService.CreateApiKey": _create_api_key,
    "AuthService.ListApiKeys": _list_api_keys,
    "AuthService.RevokeApiKey": _revoke_api_key,
    "AuthService.RevokeDelegation": of(
        auth.RevokeDelegationRequest, delegation_id=Maker.delegation
    ),
    "UserService.GetUser": of(users.GetUserRequest, user_id=Maker.user),
    "UserService.ChangeUserRole": of(
        users.ChangeUserRoleRequest, user_id=Maker.user, role=auth_pb2.ROLE_VIEWER
    ),
    "UserService.DisableUser": of(users.DisableUserRequest, user_id=Maker.user),
    "UserService.EnableUser": of(users.EnableUserRequest, user_id=Maker.user),
    "UserService.ChangePassword": of(
        users.ChangePasswordRequest, old_password="not this", new_password="correct horse battery"
    ),
    "UserService.ListLogins": of(users.ListLoginsRequest),
    "UserService.RevokeLogins": of(users.RevokeLoginsRequest, user_id=Maker.user),
    "InvitationService.CreateInvitation": _create_invitation,
    "InvitationService.ResetPassword": of(invitations.ResetPasswordRequest, user_id=Maker.user),
    "InvitationService.ListInvitations": _list_invitations,
    "InvitationService.RevokeInvitation": of(
        invitations.RevokeInvitationRequest, invitation_id=Maker.invitation
    ),
    "AuditService.ListAuditEntries": of(audit.ListAuditEntriesRequest),
    "EventService.Subscribe": _subscribe,
    "EventService.ListEvents": _list_events,
}
