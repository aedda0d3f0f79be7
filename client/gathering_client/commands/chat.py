"""gathering chat: talk to an agent in the terminal."""

import asyncio
import sys
import uuid
from typing import Annotated

import typer
from rich.markup import escape

from gathering.agent.v1 import agent_pb2, agent_service_pb2, session_service_pb2
from gathering.agent.v1 import session_pb2 as session_messages
from gathering.agent.v1 import turn_service_pb2 as turn_service
from gathering.agent.v1.turn_pb2 import Turn, TurnFrame
from gathering_client.connection import Gathering
from gathering_client.output import console, errors, print_json, with_mesh
from gathering_client.paging import all_pages
from gathering_client.streams import follow_turn

app = typer.Typer()
_DEFAULT_AGENT = "Assistant"


@app.command()
def chat(
    message: Annotated[
        str, typer.Argument(help="Said once, then the command ends; default: a conversation.")
    ] = "",
    agent: Annotated[
        str, typer.Option(help="An agent's id or name; default: one called Assistant.")
    ] = "",
    session: Annotated[str, typer.Option(help="Go on with this session.")] = "",
    workspace: Annotated[str, typer.Option(help="A workspace's id, for the agent's tools.")] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="The stream's frames, a line for each.")
    ] = False,
) -> None:
    """Talk to an agent. Its answer streams; its tool calls are shown as they come."""

    async def work(mesh: Gathering) -> None:
        session_id = session or await _new_session(mesh, agent, workspace)
        if message:
            await _say(mesh, session_id, message, as_json=as_json)
            return
        errors.print(f"Session {session_id}. An empty line or Ctrl-D ends it.", style="dim")
        while text := await _typed():
            await _say(mesh, session_id, text, as_json=as_json)
        errors.print(f"Go on later with: gathering chat --session {session_id}", style="dim")

    with_mesh(work)


async def _typed() -> str:
    try:
        return (await asyncio.to_thread(input, "you> ")).strip()
    except EOFError:
        return ""


async def _new_session(mesh: Gathering, agent: str, workspace: str) -> str:
    agent_id = agent if agent.startswith("agt_") else await _find(mesh, agent or _DEFAULT_AGENT)
    request = session_service_pb2.CreateSessionRequest(agent_id=agent_id, workspace_id=workspace)
    return (await mesh.sessions.CreateSession(request)).session_id


async def _find(mesh: Gathering, name: str) -> str:
    pages = await all_pages(mesh.agents.ListAgents, agent_service_pb2.ListAgentsRequest())
    for agent in (agent for page in pages for agent in page.agents):
        if agent.name.casefold() == name.casefold():
            return agent.agent_id
    if name != _DEFAULT_AGENT:
        raise typer.BadParameter(f"there is no agent called {name!r}; see `gathering agents list`")
    persona = agent_pb2.Persona(role="assistant", base_prompt="You help with whatever is asked.")
    created = await mesh.agents.CreateAgent(
        agent_service_pb2.CreateAgentRequest(
            agent=agent_pb2.Agent(name=_DEFAULT_AGENT, persona=persona)
        )
    )
    return created.agent_id


async def _say(mesh: Gathering, session_id: str, text: str, *, as_json: bool) -> None:
    turn = await mesh.turns.StartTurn(
        turn_service.StartTurnRequest(request_id=uuid.uuid4().hex, session_id=session_id, text=text)
    )
    try:
        async for frame in follow_turn(mesh, turn.turn_id):
            print_json(frame, line=True) if as_json else _show(frame)
    except asyncio.CancelledError:
        await mesh.turns.CancelTurn(turn_service.CancelTurnRequest(turn_id=turn.turn_id))
        raise


def _show(frame: TurnFrame) -> None:
    match frame.WhichOneof("frame"):
        case "text_delta":
            sys.stdout.write(frame.text_delta.text)
            sys.stdout.flush()
        case "step_withdrawn":
            console.print("\n[dim](begins this step anew)[/]")
        case "step":
            for call in frame.step.tool_calls:
                arguments = ", ".join(f"{name}={value!r}" for name, value in call.arguments.items())
                console.print(f"\n[yellow]{escape(call.tool)}[/]({escape(arguments)})")
        case "tool_results":
            for result in frame.tool_results.tool_results:
                _show_result(result)
        case "completed":
            _show_end(frame.completed)
        case "failed":
            errors.print(
                f"\nfailed: {frame.failed.error_message} [{frame.failed.error_reason}]",
                style="red",
                markup=False,
            )
        case "cancelled":
            errors.print("\ncancelled", style="red")


def _show_result(result: session_messages.ToolResult) -> None:
    first = result.text.strip().splitlines()[:1]
    mark = "[red]failed[/] " if result.failed else ""
    console.print(f"  {mark}[dim]{escape(''.join(first)[:120])}[/]")


def _show_end(turn: Turn) -> None:
    usage = turn.usage
    console.print(
        f"\n[dim]{turn.model}: {usage.input_token_count} tokens read, "
        f"{usage.output_token_count} written, {usage.model_call_count} model and "
        f"{usage.tool_call_count} tool calls[/]"
    )
