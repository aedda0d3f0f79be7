"""A good request for each RPC of the agent service; what recipes are made with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from gathering.agent.v1 import (
    agent_pb2,
    model_service_pb2,
    session_archive_pb2,
    session_pb2,
)
from gathering.agent.v1 import agent_service_pb2 as agents
from gathering.agent.v1 import budget_service_pb2 as budgets
from gathering.agent.v1 import session_service_pb2 as sessions
from gathering.agent.v1 import turn_service_pb2 as turns
from tests.e2e.makers import Maker
from tests.support.pictures import gif

Recipe = Callable[[Maker], Awaitable[Message]]
_NAME = FieldMask(paths=["name"])
_TITLE = FieldMask(paths=["title"])


def of(kind: type[Message], **values: Any) -> Recipe:
    """Return the recipe of a request whose fields are values, or made by a maker's method."""

    async def recipe(maker: Maker) -> Message:
        return kind(**{k: await _made(maker, v) for k, v in values.items()})

    return recipe


async def _made(maker: Maker, value: Any) -> Any:
    """Return a value; a maker's method is asked for by name, for there are kinds of makers."""
    if not callable(value):
        return value
    method = getattr(maker, value.__name__, None)
    return await (method() if method else value(maker))


async def _set_provider_key(m: Maker) -> Message:
    return m.keyed()


async def _list_provider_keys(m: Maker) -> Message:
    await m.provider_key()
    return model_service_pb2.ListProviderKeysRequest()


async def _create_agent(m: Maker) -> Message:
    return agents.CreateAgentRequest(agent=m.described())


async def _update_agent(m: Maker) -> Message:
    renamed = agent_pb2.Agent(name=m.text("renamed"))
    return agents.UpdateAgentRequest(agent_id=await m.agent(), agent=renamed, update_mask=_NAME)


async def _create_session(m: Maker) -> Message:
    return sessions.CreateSessionRequest(agent_id=await m.agent(), title=m.text("title"))


async def _agent_with_session(m: Maker) -> str:
    request: Any = await _create_session(m)
    return (await m.mesh.sessions.CreateSession(request)).agent_id


async def _session_with_turn(m: Maker) -> str:
    request = turns.GetTurnRequest(turn_id=await m.turn())
    return (await m.mesh.turns.GetTurn(request)).session_id


async def _update_session(m: Maker) -> Message:
    return sessions.UpdateSessionRequest(
        session_id=await m.session(),
        session=session_pb2.Session(title=m.text("renamed")),
        update_mask=_TITLE,
    )


async def _fork_session(m: Maker) -> Message:
    session_id = await _session_with_turn(m)
    request = sessions.ListMessagesRequest(session_id=session_id)
    messages = (await m.mesh.sessions.ListMessages(request)).messages
    return sessions.ForkSessionRequest(
        session_id=session_id, message_id=messages[0].message_id, title=m.text("fork")
    )


async def _import_session(m: Maker) -> Message:
    said = session_archive_pb2.ArchivedMessage(
        role=session_pb2.MESSAGE_ROLE_USER, text=m.text("said")
    )
    archive = session_archive_pb2.SessionArchive(
        format_version=1, title=m.text("imported"), messages=[said]
    )
    return sessions.ImportSessionRequest(agent_id=await m.agent(), archive=archive)


async def _get_image(m: Maker) -> Message:
    """An imported message shows one to any agent; in a chat the model would have to take it."""
    request: Any = await _import_session(m)
    request.archive.messages[0].images.add(data=gif(1, 1))
    session_id = (await m.mesh.sessions.ImportSession(request)).session_id
    listed = await m.mesh.sessions.ListMessages(sessions.ListMessagesRequest(session_id=session_id))
    return sessions.GetMessageImageRequest(
        session_id=session_id, message_id=listed.messages[0].message_id
    )


async def _session_to_end(m: Maker) -> str:
    """Return a session that nothing else is about."""
    request: Any = await _create_session(m)
    return (await m.mesh.sessions.CreateSession(request)).session_id


async def _set_budget(m: Maker) -> Message:
    return m.capped(await m.session())


async def _list_budgets(m: Maker) -> Message:
    budget = budgets.GetBudgetRequest(budget_id=await m.budget())
    found = await m.mesh.budgets.GetBudget(budget)
    return budgets.ListBudgetsRequest(subject_id=found.subject_id)


async def _get_usage(m: Maker) -> Message:
    await m.turn()
    return budgets.GetUsageRequest(
        bucket=budgets.USAGE_BUCKET_HOUR, group_by=[budgets.USAGE_DIMENSION_SESSION]
    )


async def _running_turn(m: Maker) -> str:
    request = turns.StartTurnRequest(session_id=await m.session(), text=m.text("say hello"))
    return (await m.mesh.turns.StartTurn(request)).turn_id


AGENT_RECIPES: dict[str, Recipe] = {
    "AgentService.CreateAgent": _create_agent,
    "AgentService.GetAgent": of(agents.GetAgentRequest, agent_id=Maker.agent),
    "AgentService.ListAgents": of(agents.ListAgentsRequest, include_archived=True),
    "AgentService.UpdateAgent": _update_agent,
    "AgentService.ArchiveAgent": of(agents.ArchiveAgentRequest, agent_id=Maker.agent),
    "AgentService.RestoreAgent": of(agents.RestoreAgentRequest, agent_id=Maker.agent),
    "AgentService.GetAgentVersion": of(
        agents.GetAgentVersionRequest, agent_id=Maker.agent, version=1
    ),
    "AgentService.ListAgentVersions": of(agents.ListAgentVersionsRequest, agent_id=Maker.agent),
    "AgentService.GetAgentTemplate": of(agents.GetAgentTemplateRequest, template="reviewer"),
    "AgentService.ListAgentTemplates": of(agents.ListAgentTemplatesRequest),
    "ModelService.ListModels": of(model_service_pb2.ListModelsRequest),
    "ModelService.SetProviderKey": _set_provider_key,
    "ModelService.ListProviderKeys": _list_provider_keys,
    "ModelService.DeleteProviderKey": of(
        model_service_pb2.DeleteProviderKeyRequest, provider_key_id=Maker.provider_key
    ),
    "BudgetService.SetBudget": _set_budget,
    "BudgetService.GetBudget": of(budgets.GetBudgetRequest, budget_id=Maker.budget),
    "BudgetService.ListBudgets": _list_budgets,
    "BudgetService.DeleteBudget": of(budgets.DeleteBudgetRequest, budget_id=Maker.budget),
    "BudgetService.GetUsage": _get_usage,
    "SessionService.CreateSession": _create_session,
    "SessionService.GetSession": of(sessions.GetSessionRequest, session_id=Maker.session),
    "SessionService.ListSessions": of(sessions.ListSessionsRequest, agent_id=_agent_with_session),
    "SessionService.UpdateSession": _update_session,
    "SessionService.ForkSession": _fork_session,
    "SessionService.ExportSession": of(
        sessions.ExportSessionRequest, session_id=_session_with_turn
    ),
    "SessionService.GetMessageImage": _get_image,
    "SessionService.ImportSession": _import_session,
    "SessionService.DeleteSession": of(sessions.DeleteSessionRequest, session_id=_session_to_end),
    "SessionService.ListMessages": of(sessions.ListMessagesRequest, session_id=_session_with_turn),
    "TurnService.StartTurn": of(turns.StartTurnRequest, session_id=Maker.session, text="Hello."),
    "TurnService.GetTurn": of(turns.GetTurnRequest, turn_id=Maker.turn),
    "TurnService.GetTurnContext": of(turns.GetTurnContextRequest, turn_id=Maker.turn),
    "TurnService.ListTurns": of(turns.ListTurnsRequest, session_id=_session_with_turn),
    "TurnService.ListModelAttempts": of(turns.ListModelAttemptsRequest, turn_id=Maker.turn),
    "TurnService.WatchTurn": of(turns.WatchTurnRequest, turn_id=Maker.turn),
    "TurnService.Chat": of(turns.ChatRequest, session_id=Maker.session, text="Hello."),
    "TurnService.StreamChat": of(turns.StreamChatRequest, session_id=Maker.session, text="Hello."),
    "TurnService.CancelTurn": of(turns.CancelTurnRequest, turn_id=_running_turn),
}
