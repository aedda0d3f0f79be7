"""How commands speak: tables and lines for people, JSON for programs, errors in one form."""

import asyncio
import json
import os
import re
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path
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
# For tables that go into a pipe or a file, where nothing is folded.
_wide = Console(highlight=False, soft_wrap=True, width=10_000)
# Escapes, and all controls but tab and line feed; also what turns the direction of writing.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_ID = re.compile(r"[a-z]{3}_[0-9a-f]{32}")
_LONGEST_FILE = 64 * 1024 * 1024  # bytes
errors = Console(stderr=True, highlight=False, soft_wrap=True)


def with_mesh(
    work: Callable[[Gathering], Coroutine[Any, Any, None]], profile: Profile | None = None
) -> None:
    """Run a command's work on a connection; errors end the command with status 1 and words.

    The connection is to the mesh of `profile`, else to the one that `find_profile` finds.
    """
    with _ending_in_words():
        asyncio.run(_connected(work, profile))


@contextmanager
def open_mesh() -> Iterator[tuple[asyncio.Runner, Gathering]]:
    """Yield a connection and what runs work on it, piece by piece; errors end as in `with_mesh`."""
    with _ending_in_words(), asyncio.Runner() as runner:
        mesh = runner.run(_connect())
        try:
            yield runner, mesh
        finally:
            runner.run(mesh.__aexit__(None, None, None))


async def _connect() -> Gathering:
    return find_profile().connect()


@contextmanager
def _ending_in_words() -> Iterator[None]:
    try:
        yield
    except (GatheringError, NoMeshError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def visible(text: str) -> str:
    """Return a text of somebody else's without what would steer the terminal."""
    return _STEERING.sub("\ufffd", text)


def fail(message: str) -> NoReturn:
    """End the command with status 1 and words."""
    errors.print(escape(message), style="red")
    raise typer.Exit(1) from None


async def _connected(
    work: Callable[[Gathering], Coroutine[Any, Any, None]], profile: Profile | None
) -> None:
    async with (profile or find_profile()).connect() as mesh:
        await work(mesh)


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object of at most 64 MiB; anything else ends the command."""
    if file.stat().st_size > _LONGEST_FILE:
        fail(f"{file} is too large")
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        fail(f"{file} cannot be read: {error}")
    if not isinstance(told, dict):
        fail(f"{file} holds no JSON object")
    return told


def as_dict(message: Message) -> dict[str, Any]:
    """Return a message as REST would show it."""
    return MessageToDict(message, preserving_proto_field_name=True)


def print_json(message: Message, *, line: bool = False) -> None:
    """Print a message for programs; `line`: as one line of a stream."""
    sys.stdout.write(json.dumps(as_dict(message), indent=None if line else 2) + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows for people; ids are not broken, so that they can be copied."""
    table = Table(box=None, header_style="bold", pad_edge=False, show_header=any(columns))
    rows = list(rows)
    for place, column in enumerate(columns):
        ids = all(_ID.fullmatch(row[place]) or row[place] in {"", "-"} for row in rows)
        table.add_column(column, overflow="fold", no_wrap=ids)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    folded = console.is_terminal or "COLUMNS" in os.environ
    (console if folded else _wide).print(table)


def clock(time: Timestamp) -> str:
    """Return the local time of day to the millisecond."""
    return time.ToDatetime(UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]


def word(enum_name: str) -> str:
    """Return an enum value's name as a word: TASK_STATE_IN_REVIEW is `in review`."""
    return enum_name.split("_STATE_")[-1].lower().replace("_", " ")
