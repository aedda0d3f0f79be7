"""gathering sessions: list, show, rename, resume-strategy, fork, export, import, delete."""

import json
import sys
from datetime import UTC
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.timestamp_pb2 import Timestamp
from rich.markup import escape

from gathering.agent.v1 import session_archive_pb2, session_pb2
from gathering.agent.v1 import session_service_pb2 as pb
from gathering_client import choices
from gathering_client.chatting.finding import latest_sessions
from gathering_client.chatting.reading import show_message
from gathering_client.chatting.typist import is_terminal
from gathering_client.chatting.words import shortened
from gathering_client.connection import Gathering
from gathering_client.naming import agent_id_of, agent_names
from gathering_client.output import (
    as_dict,
    console,
    fail,
    print_json,
    print_table,
    read_json,
    visible,
    with_mesh,
)
from gathering_client.paging import all_pages

_TITLE = 40  # characters
app = typer.Typer(help="Sessions: conversations with agents.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command("list")
def list_sessions(
    query: Annotated[str, typer.Option(help="In the title, or in what was said.")] = "",
    agent: Annotated[str, typer.Option(help="Only with this agent, by id or name.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="The most.")] = 50,
    as_json: Json = False,
) -> None:
    """List your sessions, the one in which was spoken last first; `gathering chat -s` goes on."""

    async def work(mesh: Gathering) -> None:
        agent_id = await agent_id_of(mesh, agent, archived=True) if agent else ""
        found = (await latest_sessions(mesh, agent_id=agent_id, query=query))[:limit]
        if as_json:
            print_json(pb.ListSessionsResponse(sessions=found))
            return
        names = await agent_names(mesh)
        print_table(
            ("session", "title", "agent", "messages", "last"),
            [
                (
                    each.session_id,
                    visible(shortened(each.title, _TITLE)) or "-",
                    visible(names.get(each.agent_id, each.agent_id)),
                    str(each.message_count),
                    _day(each.last_message_time) if each.HasField("last_message_time") else "-",
                )
                for each in found
            ],
        )

    with_mesh(work)


def _day(time: Timestamp) -> str:
    return time.ToDatetime(UTC).astimezone().strftime("%Y-%m-%d %H:%M")


@app.command("show")
def show(
    session_id: str,
    last: Annotated[int, typer.Option(min=0, help="Only so many messages; 0: all.")] = 0,
    as_json: Json = False,
) -> None:
    """Show what was said in a session, with the messages' ids (for `fork`)."""

    async def work(mesh: Gathering) -> None:
        request = pb.ListMessagesRequest(session_id=session_id)
        pages = await all_pages(mesh.sessions.ListMessages, request)
        found = [message for page in pages for message in page.messages][-last:]
        if as_json:
            print_json(pb.ListMessagesResponse(messages=found))
            return
        for message in found:
            show_message(message)

    with_mesh(work)


@app.command("rename")
def rename(session_id: str, title: str) -> None:
    """Give a session another title."""

    async def work(mesh: Gathering) -> None:
        request = pb.UpdateSessionRequest(
            session_id=session_id,
            session=session_pb2.Session(title=title),
            update_mask=FieldMask(paths=["title"]),
        )
        console.print(escape((await mesh.sessions.UpdateSession(request)).title))

    with_mesh(work)


@app.command("resume-strategy")
def resume_strategy(
    session_id: str,
    strategy: Annotated[str, typer.Argument(help="auto, full, summary, task_focused or minimal.")],
) -> None:
    """Say how much of what was said before a turn the model is shown, word by word."""
    wanted = choices.resume_strategy(strategy)

    async def work(mesh: Gathering) -> None:
        request = pb.UpdateSessionRequest(
            session_id=session_id,
            session=session_pb2.Session(resume_strategy=wanted),
            update_mask=FieldMask(paths=["resume_strategy"]),
        )
        updated = await mesh.sessions.UpdateSession(request)
        name = session_pb2.ResumeStrategy.Name(updated.resume_strategy)
        console.print(name.removeprefix("RESUME_STRATEGY_").lower())

    with_mesh(work)


@app.command("fork")
def fork(
    session_id: str,
    message_id: Annotated[str, typer.Argument(help="The last one to copy; see `show`.")],
    title: Annotated[str, typer.Option(help="Default: the session's.")] = "",
) -> None:
    """Begin a session with a copy of another's messages; prints its id."""

    async def work(mesh: Gathering) -> None:
        request = pb.ForkSessionRequest(session_id=session_id, message_id=message_id, title=title)
        console.print((await mesh.sessions.ForkSession(request)).session_id)

    with_mesh(work)


@app.command("export")
def export(
    session_id: str,
    file: Annotated[Path | None, typer.Argument(help="Where to; default: standard output.")] = None,
    after: Annotated[int, typer.Option(help="Leave out messages up to this sequence.")] = 0,
) -> None:
    """Write a session as one JSON document."""

    async def work(mesh: Gathering) -> None:
        request = pb.ExportSessionRequest(session_id=session_id, after_sequence=after)
        text = json.dumps(as_dict(await mesh.sessions.ExportSession(request)), indent=2) + "\n"
        if file is None:
            sys.stdout.write(text)
        else:
            file.write_text(text, encoding="utf-8")

    with_mesh(work)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="From `export`.")],
    agent: Annotated[str, typer.Option(help="With whom it goes on, by id or name.")],
) -> None:
    """Create a session from a document; prints its id."""
    archive = _read(file)

    async def work(mesh: Gathering) -> None:
        agent_id = await agent_id_of(mesh, agent)
        request = pb.ImportSessionRequest(agent_id=agent_id, archive=archive)
        console.print((await mesh.sessions.ImportSession(request)).session_id)

    with_mesh(work)


def _read(file: Path) -> session_archive_pb2.SessionArchive:
    """Read a document; fields that it should not have end the command."""
    try:
        return ParseDict(read_json(file), session_archive_pb2.SessionArchive())
    except (ParseError, AttributeError, TypeError, RecursionError) as error:
        fail(f"{file} is no session: {error}")


@app.command("delete")
def delete(
    session_id: str,
    force: Annotated[bool, typer.Option("--force", help="Cancel a turn that runs first.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a session and all that was said in it, for good."""
    if is_terminal() and not yes:
        typer.confirm(f"Delete {session_id} for good?", abort=True)

    async def work(mesh: Gathering) -> None:
        await mesh.sessions.DeleteSession(
            pb.DeleteSessionRequest(session_id=session_id, force=force)
        )
        console.print("Deleted.")

    with_mesh(work)
