"""gathering demo: a circle reviews a real directory of code, and you watch."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.rule import Rule

from gathering.agent.v1 import turn_service_pb2
from gathering.events.v1.event_pb2 import Event
from gathering.orchestrator.v1 import task_pb2
from gathering.skills.v1 import workspace_service_pb2
from gathering_client import cast
from gathering_client.commands.events import describe
from gathering_client.commands.tasks import print_task, state
from gathering_client.connection import Gathering
from gathering_client.output import console, fail, print_json, with_mesh
from gathering_client.profile import NoMeshError, NoneKnownError, find_profile
from gathering_client.streams import follow_events, follow_task

app = typer.Typer()
_TIMEOUT = 900.0  # seconds


@dataclass
class Run:
    """What a demonstration is about, as it becomes known."""

    root: Path
    as_json: bool
    tasks: list[task_pb2.Task] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)


@app.command()
def demo(
    workspace: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="The directory to review.")
    ] = Path(),
    as_json: Annotated[
        bool, typer.Option("--json", help="Events and tasks, a line for each.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave a mesh that this command started running.")
    ] = False,
) -> None:
    """Let a circle of agents review a directory and write REVIEW.md into it.

    Starts a mesh on this machine if none is known. Ends with 0 when the work is approved.
    """
    run = Run(workspace.resolve(), as_json)
    with _local_mesh(keep=keep, quiet=as_json):
        try:
            with_mesh(lambda mesh: _play(mesh, run))
        except TimeoutError:
            fail(f"The work is not done after {_TIMEOUT:.0f} s; `gathering tasks list` shows it.")
    main = run.tasks[-1] if run.tasks else None
    if main is None or main.state != task_pb2.TASK_STATE_COMPLETED:
        raise typer.Exit(1)


@contextlib.contextmanager
def _local_mesh(*, keep: bool, quiet: bool) -> Iterator[None]:
    """Have a mesh while the body runs: the one that is known, or one started for the purpose."""
    try:
        find_profile()
    except NoneKnownError as none_known:
        try:
            from gathering_local import commands as local
        except ImportError:  # Only the client is installed.
            fail(str(none_known))
        local.up(port=local.usable_port(), quiet=quiet)
        try:
            yield
        finally:
            if not keep:
                local.down(quiet=quiet)
    except NoMeshError as error:
        fail(str(error))
    else:
        yield


async def _play(mesh: Gathering, run: Run) -> None:
    workspace = await mesh.workspaces.CreateWorkspace(
        workspace_service_pb2.CreateWorkspaceRequest(path=str(run.root))
    )
    circle = await cast.gather(mesh, workspace.workspace_id)
    _say(run, f"Three agents gathered around {run.root}")
    subjects = [circle.circle_id, *(agent.agent_id for agent in circle.agents.values())]
    async with asyncio.timeout(_TIMEOUT), _shown_events(mesh, run, subjects):
        first = await cast.small_task(mesh, circle)
        await _accepted(mesh, first.task_id)
        main = await cast.main_task(mesh, circle)
        run.tasks = [await _ended(mesh, first.task_id), await _ended(mesh, main.task_id)]
    for task in run.tasks:
        await _report(mesh, run, task, circle)
    await cast.disband(mesh, circle)
    _say(run, f"{time.monotonic() - run.begun:.1f} s in all")


@contextlib.asynccontextmanager
async def _shown_events(mesh: Gathering, run: Run, subjects: list[str]) -> AsyncIterator[None]:
    """Show events while the body runs; the subscription stands before the body begins."""
    subscribed = asyncio.Event()

    async def show() -> None:
        async for followed in follow_events(mesh, subject_ids=subjects, checkpoints=True):
            subscribed.set()
            if followed.event is not None:
                _show(run, followed.event)

    task = asyncio.create_task(show())
    waiting = asyncio.create_task(subscribed.wait())
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        yield
    finally:
        for each in (task, waiting):
            each.cancel()
        await asyncio.gather(task, waiting, return_exceptions=True)


def _show(run: Run, event: Event) -> None:
    print_json(event, line=True) if run.as_json else console.print(describe(event), soft_wrap=True)


def _say(run: Run, text: str) -> None:
    if not run.as_json:
        console.print(Rule(escape(text), align="left"))


async def _accepted(mesh: Gathering, task_id: str) -> None:
    early = {task_pb2.TASK_STATE_PENDING, task_pb2.TASK_STATE_OFFERED}
    async for task in follow_task(mesh, task_id):
        if task.state not in early:
            return


async def _ended(mesh: Gathering, task_id: str) -> task_pb2.Task:
    last = task_pb2.Task()
    async for task in follow_task(mesh, task_id):
        last = task
        if task.state == task_pb2.TASK_STATE_ESCALATED:
            break
    return last


async def _report(mesh: Gathering, run: Run, task: task_pb2.Task, circle: cast.Cast) -> None:
    if run.as_json:
        print_json(task, line=True)
        return
    _say(run, f"{task.title}: {state(task)}")
    print_task(task)
    turns = await mesh.turns.ListTurns(
        turn_service_pb2.ListTurnsRequest(task_id=task.task_id, page_size=200)
    )
    names = {agent.agent_id: name for name, agent in circle.agents.items()}
    for turn in reversed(turns.turns):
        usage = turn.usage
        seconds = (turn.end_time.ToDatetime() - turn.create_time.ToDatetime()).total_seconds()
        console.print(
            f"  turn    {names.get(turn.agent_id, turn.agent_id)}: {seconds:.1f} s, {turn.model}, "
            f"{usage.model_call_count} model and {usage.tool_call_count} tool calls, "
            f"{usage.input_token_count} tokens read and {usage.output_token_count} written"
        )
