"""The commands of local mode: up, down, status, doctor, logs."""

import asyncio
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gathering_local import doctor as checks
from gathering_local.addresses import ADMIN_EMAIL, DEFAULT_PORT, free_port
from gathering_local.home import Home, default_home
from gathering_local.layout import MOST_REPLICAS, service_of
from gathering_local.logs import show_logs
from gathering_local.starting import Wanted, all_ready, running, start, stop, wait_ready
from gathering_local.supervisor import Status

app = typer.Typer(help="A mesh on this machine.")
_console = Console(soft_wrap=True)
_errors = Console(stderr=True, soft_wrap=True)

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", help="Folder of all data; default GATHERING_HOME or the user's."),
]

ReplicasOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=MOST_REPLICAS,
        help="Processes of each service; default: as it runs, GATHERING_REPLICAS or 1.",
    ),
]


def _home(folder: Path | None) -> Home:
    return Home((folder or default_home()).absolute())


@app.command()
def up(
    home: HomeOption = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of the edge, on 127.0.0.1; 0: a free one.")
    ] = DEFAULT_PORT,
    replicas: ReplicasOption = None,
    *,
    redis: Annotated[
        bool, typer.Option("--redis/--no-redis", help="Carry text between replicas as it grows.")
    ] = True,
    timeout: Annotated[float, typer.Option(help="Seconds to wait until all is ready.")] = 120.0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Start the mesh in the background and wait until it is ready."""
    here = _home(home)
    found = running(here)
    if found and replicas not in {None, replicas_of(found)}:
        # Edge and services know each other's addresses from their start.
        _say(f"It runs with {replicas_of(found)} of each service; it starts anew.", quiet=quiet)
        stop(here, timeout)
        port, found = urlsplit(found.url).port or port, None
    wanted = Wanted(port or free_port(), replicas or _usual_replicas(), redis)
    started = None if found else start(here, wanted)
    status = wait_ready(here, started, timeout, quiet=quiet)
    if not quiet:
        print_login(here, status)


@app.command()
def down(
    home: HomeOption = None,
    timeout: Annotated[float, typer.Option(help="Seconds before it is killed.")] = 60.0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Stop the mesh. Its data stays."""
    left = stop(_home(home), timeout)
    if left is None:
        _say("Nothing runs.", quiet=quiet)
    else:
        _say(f"Ended what was left: {', '.join(left)}." if left else "Stopped.", quiet=quiet)


@app.command()
def restart(
    part: Annotated[
        str, typer.Argument(help="A service or another part; default: all services.")
    ] = "",
    home: HomeOption = None,
    timeout: Annotated[float, typer.Option(help="Seconds for each step.")] = 120.0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Restart services, one replica of each at a time: where there are two, calls go on."""
    # Imported here: other commands need no service's code and are to be quick.
    from gathering_local import rolling

    try:
        asyncio.run(rolling.restart(_home(home), part, timeout, lambda t: _say(t, quiet=quiet)))
    except rolling.RestartError as error:
        _errors.print(escape(str(error)), style="red")
        raise typer.Exit(1) from None


@app.command()
def status(
    home: HomeOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Tell how each part is. Exits with 1 when not all are ready."""
    found = running(_home(home))
    if found is None:
        sys.stdout.write('{"ready": false}\n' if as_json else "The mesh does not run.\n")
        raise typer.Exit(1)
    if as_json:
        sys.stdout.write(json.dumps(asdict(found), indent=2) + "\n")
    else:
        _console.print(_table(found))
    raise typer.Exit(0 if all_ready(found) else 1)


@app.command()
def doctor(home: HomeOption = None) -> None:
    """Look for what keeps a mesh from running here, and say how to mend it."""
    results = asyncio.run(checks.examine(_home(home)))
    for result in results:
        mark = "[green]ok[/]  " if result.good else "[red]bad[/] "
        _console.print(f"{mark} {escape(result.what)}: {escape(result.finding)}")
        if not result.good:
            _console.print(f"     {escape(result.remedy)}")
    raise typer.Exit(0 if all(result.good for result in results) else 1)


@app.command()
def logs(
    part: Annotated[str, typer.Argument(help="One part, such as `agent`; default: all.")] = "",
    home: HomeOption = None,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="Of the past.")] = 50,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as they come.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="As they were written.")] = False,
) -> None:
    """Show the logs of the parts."""
    try:
        show_logs(_home(home).logs, part, lines, follow=follow, raw=raw)
    except FileNotFoundError as error:
        _errors.print(escape(str(error)))
        raise typer.Exit(1) from None


def replicas_of(status: Status) -> int:
    """Return how many processes each service has."""
    return max(1, sum(service_of(part.name) == "gateway" for part in status.parts))


def _usual_replicas() -> int:
    given = os.environ.get("GATHERING_REPLICAS", "1")
    if given.isdecimal() and 1 <= int(given) <= MOST_REPLICAS:
        return int(given)
    _errors.print(f"GATHERING_REPLICAS is not 1 to {MOST_REPLICAS}: {escape(given)}", style="red")
    raise typer.Exit(2)


def _say(text: str, *, quiet: bool) -> None:
    if not quiet:
        _console.print(escape(text))


def usable_port() -> int:
    """Return the default port of the edge, or a free one when somebody else has it."""
    return DEFAULT_PORT if checks.port_is_free(DEFAULT_PORT).good else free_port()


def print_login(home: Home, status: Status) -> None:
    """Print where the mesh is and how to log in."""
    _console.print(f"\nGathering is ready at [bold]{status.url}[/]")
    _console.print(f"  OpenAPI   {status.url}/openapi.json")
    _console.print(f"  e-mail    {ADMIN_EMAIL}")
    _console.print(f"  password  {home.secret('admin')}", highlight=False)
    _console.print("\n  gathering demo     watch a circle review a directory of code")
    _console.print("  gathering chat     talk to an agent")
    _console.print("  gathering down     stop (data stays)\n")


def _table(status: Status) -> Table:
    table = Table(title=f"{status.url}   {'ready' if all_ready(status) else 'not ready'}")
    for column in ("part", "state", "address", "process", "restarts", "last message"):
        table.add_column(column)
    for part in status.parts:
        colour = "green" if part.state == "ready" else "red"
        table.add_row(
            part.name,
            f"[{colour}]{part.state}[/]",
            part.address,
            str(part.pid or ""),
            str(part.restart_count),
            escape(part.message),
        )
    return table
