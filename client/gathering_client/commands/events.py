"""gathering events: the live feed."""

from typing import Annotated

import typer
from google.protobuf.descriptor import FieldDescriptor
from rich.markup import escape

from gathering.events.v1.event_pb2 import Event
from gathering_client.connection import Gathering
from gathering_client.output import clock, console, errors, print_json, with_mesh
from gathering_client.streams import follow_events

app = typer.Typer()
_COLOURS = {
    "agent": "cyan",
    "gateway": "magenta",
    "memory": "blue",
    "orchestrator": "green",
    "skills": "yellow",
}
_SHORT_ID = 10


@app.command()
def events(
    event_type: Annotated[
        list[str] | None, typer.Option("--type", help="Only these, such as task_created.")
    ] = None,
    subject: Annotated[
        list[str] | None, typer.Option(help="Only what mentions this id; repeatable.")
    ] = None,
    since: Annotated[
        str, typer.Option(help="A cursor, or `start` for all that is kept; default: from now on.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="A line for each, for programs.")] = False,
) -> None:
    """Follow what happens, until Ctrl-C; resumes by itself when the connection is cut."""

    async def work(mesh: Gathering) -> None:
        stream = follow_events(
            mesh, cursor=since, types=event_type or (), subject_ids=subject or ()
        )
        async for followed in stream:
            if followed.event is None:
                errors.print(f"events are missing: {followed.gap}", style="red")
            elif as_json:
                print_json(followed.event, line=True)
            else:
                console.print(describe(followed.event), soft_wrap=True)

    with_mesh(work)


def describe(event: Event) -> str:
    """Return an event as one line for people."""
    colour = _COLOURS.get(event.source, "white")
    kind = event.WhichOneof("payload") or event.type
    payload = getattr(event, kind, None)
    fields = (
        " ".join(_shown(field, value) for field, value in payload.ListFields()) if payload else ""
    )
    return f"{clock(event.commit_time)} [{colour}]{kind:<22}[/] {escape(fields)}"


def _shown(field: FieldDescriptor, value: object) -> str:
    name = field.name.removesuffix("_id").removesuffix("_count")
    if field.message_type is not None:
        parts = ", ".join(f"{part.name} {part.value:.2f}x{part.weight:.2f}" for part in value)  # type: ignore[attr-defined]
        return f"{name}=({parts})"
    if isinstance(value, float):
        return f"{name}={value:.3f}"
    if isinstance(value, str) and field.name.endswith("_id"):
        prefix, _, digits = value.partition("_")
        return f"{name}={prefix}_…{digits[-_SHORT_ID + 4 :]}"
    if isinstance(value, (str, int, bool)):
        return f"{name}={value}"
    return f"{name}={','.join(str(each)[:12] for each in value)}"  # type: ignore[attr-defined]
