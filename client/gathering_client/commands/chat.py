"""gathering chat: talk to an agent in the terminal."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from gathering.agent.v1 import turn_pb2
from gathering_client import choices
from gathering_client.chatting.conversation import Conversation
from gathering_client.chatting.finding import open_session
from gathering_client.chatting.reading import show_messages
from gathering_client.chatting.screen import JsonScreen, PlainScreen, Screen, TerminalScreen
from gathering_client.chatting.slash import NotSoError, SlashCommands, spent
from gathering_client.chatting.typist import Typist, is_terminal
from gathering_client.chatting.words import error_words
from gathering_client.connection import Gathering
from gathering_client.errors import GatheringError
from gathering_client.output import errors, fail, open_mesh, visible

app = typer.Typer()
_STOPPED_EARLY = 3


@app.command()
def chat(  # noqa: PLR0917 - typer makes options of them
    message: Annotated[
        str,
        typer.Argument(help="Said once, then the command ends; `-`: standard input, whole."),
    ] = "",
    said: Annotated[str, typer.Option("--message", "-m", help="Likewise.")] = "",
    agent: Annotated[
        str, typer.Option("--agent", "-a", help="By id or name; default: one called Assistant.")
    ] = "",
    template: Annotated[
        str, typer.Option(help="An agent of this template; made if there is none.")
    ] = "",
    session: Annotated[str, typer.Option("--session", "-s", help="Go on with this session.")] = "",
    resume: Annotated[
        bool, typer.Option("--continue", "-c", help="Go on where you spoke last.")
    ] = False,
    workspace: Annotated[str, typer.Option(help="A workspace's id, for the agent's tools.")] = "",
    image: Annotated[
        list[Path] | None,
        typer.Option(exists=True, dir_okay=False, help="A picture for the first message."),
    ] = None,
    resume_strategy: Annotated[
        str,
        typer.Option(
            help="How much of what was said before the model is shown here: auto, full, summary, "
            "task_focused or minimal; default: as the session says."
        ),
    ] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="The stream's frames, a line for each.")
    ] = False,
) -> None:
    """Talk to an agent. Its answer streams, its tool calls are shown, its questions are asked.

    In a conversation /help lists what can be typed beside messages, and Ctrl-C cancels a turn. With
    a message, the answer alone goes to standard output; the exit status is 0 where the agent is
    done, 3 where it stopped before, 1 where the turn failed, 130 where it was cancelled.
    """
    text = message or said
    if text == "-":
        text = sys.stdin.read()
    strategy = choices.resume_strategy(resume_strategy)
    with open_mesh() as (runner, mesh):
        screen = _screen(as_json=as_json)
        talk = runner.run(_open(mesh, screen, session, agent, template, workspace, resume))
        talk.strategy = strategy
        try:
            for file in image or ():
                talk.show_picture(str(file))
        except (OSError, ValueError) as error:
            fail(str(error))
        if text.strip():
            raise typer.Exit(_once(runner, talk, text))
        _converse(runner, talk, resumed=bool(session or resume))


def _screen(*, as_json: bool) -> Screen:
    if as_json:
        return JsonScreen(errors)
    if not sys.stdout.isatty():
        return PlainScreen(errors)
    return TerminalScreen(Console(highlight=False))  # which wraps lines at words


async def _open(  # noqa: PLR0917 - what the command line says
    mesh: Gathering,
    screen: Screen,
    session: str,
    agent: str,
    template: str,
    workspace: str,
    resume: bool,
) -> Conversation:
    found = await open_session(mesh, session, agent, template, workspace, resume)
    return await Conversation.open(mesh, screen, found, asks=is_terminal())


def _once(runner: asyncio.Runner, talk: Conversation, text: str) -> int:
    """Say one thing; return the exit status."""
    try:
        turn = runner.run(talk.say(text))
    except GatheringError as error:
        fail(error_words(error))
    if turn.state == turn_pb2.TURN_STATE_CANCELLED:
        return 130
    if turn.state != turn_pb2.TURN_STATE_COMPLETED:
        return 1
    done = turn.stop_reason in {turn_pb2.STOP_REASON_END, turn_pb2.STOP_REASON_UNSPECIFIED}
    return 0 if done else _STOPPED_EARLY


def _converse(runner: asyncio.Runner, talk: Conversation, *, resumed: bool) -> None:
    """Talk until somebody leaves."""
    runner.run(_greet(talk, resumed=resumed))
    typist, commands = Typist(), SlashCommands(talk)
    with typist.history():
        while not commands.left:
            text = typed(typist)
            if text is None:
                break
            if text:
                _run(runner, commands, text)
    runner.run(_part(commands.talk))


async def _greet(talk: Conversation, *, resumed: bool) -> None:
    name, session = visible(talk.agent.name), talk.session
    title = f" “{visible(session.title)}”" if session.title else ""
    errors.print(
        f"{name}, session {session.session_id}{title}. /help helps; Ctrl-D leaves.",
        style="dim", markup=False,
    )  # fmt: skip
    if resumed and is_terminal():
        await show_messages(talk.mesh, session)
    living = await talk.living() if resumed else None
    if living is not None:
        errors.print("A turn of this session still runs.", style="yellow")
        await talk.follow(living.turn_id)


async def _part(talk: Conversation) -> None:
    used = await spent(talk)
    session_id = talk.session.session_id
    errors.print(f"This session used {used}.", style="dim", markup=False)
    errors.print(f"Go on later with: gathering chat --session {session_id}", style="dim")


def typed(typist: Typist) -> str | None:
    """Return what is typed; None at the end, or after a second Ctrl-C, however fast it comes."""
    interrupted = False
    while True:
        try:
            if interrupted:
                errors.print("\nCtrl-C again, or Ctrl-D, leaves.", style="dim")
            return typist.read()
        except KeyboardInterrupt:
            if interrupted:
                return None
            interrupted = True


def _run(runner: asyncio.Runner, commands: SlashCommands, text: str) -> None:
    """Say what was typed, or do it; what goes wrong is said, and ends only what nobody types."""
    try:
        if text.startswith("/") and not text.startswith("//"):
            runner.run(commands.run(text))
        else:
            runner.run(commands.talk.say(text.removeprefix("/") if text[:2] == "//" else text))
    except (GatheringError, NotSoError) as error:
        words = error_words(error) if isinstance(error, GatheringError) else str(error)
        if not is_terminal():
            fail(words)
        errors.print(words, style="red", markup=False)
