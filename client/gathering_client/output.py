"""How commands speak: tables and lines for people, JSON for programs, errors in one form."""

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import UTC
from typing import Any, NoReturn

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gathering_client.connection import Gathering
from gathering_client.errors import GatheringError
from gathering_client.profile import NoMeshError, Profile, find_profile

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


def with_mesh(
    work: Callable[[Gathering], Coroutine[Any, Any, None]], profile: Profile | None = None
) -> None:
    """Run a command's work on a connection; errors end the command with status 1 and words.

    The connection is to the mesh of `profile`, else to the one that `find_profile` finds.
    """
    try:
        asyncio.run(_connected(work, profile))
    except (GatheringError, NoMeshError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def fail(message: str) -> NoReturn:
    """End the command with status 1 and words."""
    errors.print(escape(message), style="red")
    raise typer.Exit(1) from None


async def _connected(
    work: Callable[[Gathering], Coroutine[Any, Any, None]], profile: Profile | None
) -> None:
    async with (profile or find_profile()).connect() as mesh:
        await work(mesh)


def as_dict(message: Message) -> dict[str, Any]:
    """Return a message as REST would show it."""
    return MessageToDict(message, preserving_proto_field_name=True)


def print_json(message: Message, *, line: bool = False) -> None:
    """Print a message for programs; `line`: as one line of a stream."""
    sys.stdout.write(json.dumps(as_dict(message), indent=None if line else 2) + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows for people."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console.print(table)


def clock(time: Timestamp) -> str:
    """Return the local time of day to the millisecond."""
    return time.ToDatetime(UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]


def word(enum_name: str) -> str:
    """Return an enum value's name as a word: TASK_STATE_IN_REVIEW is `in review`."""
    return enum_name.split("_STATE_")[-1].lower().replace("_", " ")
