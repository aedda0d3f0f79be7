"""The commands of local mode: up, down, status, doctor, logs."""

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gathering_local import doctor as checks
from gathering_local.addresses import ADMIN_EMAIL, DEFAULT_PORT, free_port
from gathering_local.home import Home, default_home
from gathering_local.layout import MOST_REPLICAS
from gathering_local.logs import last_words, show_logs
from gathering_local.processes import ProcessId
from gathering_local.supervisor import (
    ALREADY_RUNNING,
    AlreadyRunning,
    PartStatus,
    Status,
    end_leftovers,
    hold,
    read_status,
)

app = typer.Typer(help="A mesh on this machine.")
_console = Console(soft_wrap=True)
_errors = Console(stderr=True, soft_wrap=True)
_HINT_AFTER = 3  # restarts of a part while the mesh starts
_POLL_SECONDS = 0.05

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", help="Folder of all data; default GATHERING_HOME or the user's."),
]

ReplicasOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=MOST_REPLICAS,
        envvar="GATHERING_REPLICAS",
        help="Processes of each service; default as it runs, or 1.",
    ),
]


def _home(folder: Path | None) -> Home:
    return Home((folder or default_home()).absolute())


@app.command()
def up(
    home: HomeOption = None,
    port: Annotated[int, typer.Option(help="Of the edge, on 127.0.0.1.")] = DEFAULT_PORT,
    replicas: ReplicasOption = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait until all is ready.")] = 120.0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Start the mesh in the background and wait until it is ready."""
    here = _home(home)
    if running(here) is None:
        if not _leftovers(here):  # A killed supervisor's edge may hold the port; it is ended first.
            _free_or_exit(port)
        started = _start(here, port, replicas or 1)
    else:
        started = None
    status = _wait_ready(here, started, timeout, quiet=quiet)
    if not quiet:
        print_login(here, status)


@app.command()
def down(
    home: HomeOption = None,
    timeout: Annotated[float, typer.Option(help="Seconds before it is killed.")] = 60.0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Stop the mesh. Its data stays."""
    here = _home(home)
    status = running(here)
    if status:
        asyncio.run(status.supervisor.end(timeout))
    left = asyncio.run(_end_leftovers(here))
    if quiet:
        return
    if status:
        _console.print("Stopped.")
    else:
        _console.print(f"Ended what was left: {', '.join(left)}." if left else "Nothing runs.")


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
    raise typer.Exit(0 if _all_ready(found) else 1)


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


def running(home: Home) -> Status | None:
    """Return the status of the mesh that runs from this home, None if none does."""
    found = read_status(home)
    return found if found and found.supervisor.alive() else None


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


def _free_or_exit(port: int) -> None:
    finding = checks.port_is_free(port)
    if not finding.good:
        _errors.print(f"{finding.finding}. {finding.remedy}", style="red")
        raise typer.Exit(1)


def _start(home: Home, port: int, replicas: int) -> subprocess.Popen[bytes]:
    home.status_file.unlink(missing_ok=True) if not _leftovers(home) else None
    log = home.logs / "supervisor.log"
    with log.open("ab") as output:
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "gathering_local",
                "--home",
                str(home.folder),
                "--port",
                str(port),
                "--replicas",
                str(replicas),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _leftovers(home: Home) -> bool:
    found = read_status(home)
    parts = found.parts if found else ()
    return any(ProcessId(part.pid, part.started).alive() for part in parts)


def _wait_ready(
    home: Home, started: "subprocess.Popen[bytes] | None", timeout: float, *, quiet: bool
) -> Status:
    deadline = time.monotonic() + timeout
    told: set[str] = set()
    begun = time.monotonic()
    while time.monotonic() < deadline:
        found = running(home)
        if found and not quiet:
            _tell(found, told, begun)
        if found and _all_ready(found):
            return found
        if found and (bad := _hopeless(found)):
            _give_up(
                home, f"{bad.name} does not start: {bad.message}", home.logs / f"{bad.name}.log"
            )
        if started is not None and started.poll() == ALREADY_RUNNING:
            started = None  # Another `up` was faster; what it starts is what we wait for.
        if started is not None and started.poll() is not None:
            last = read_status(home)
            reason = last.message if last else "see the log"
            _give_up(home, f"the supervisor ended: {reason}", home.logs / "supervisor.log")
        time.sleep(_POLL_SECONDS)
    _give_up(home, f"not ready after {timeout:.0f} s", home.logs / "supervisor.log")
    raise AssertionError


def _tell(status: Status, told: set[str], begun: float) -> None:
    for part in status.parts:
        if part.state == "ready" and part.name not in told:
            told.add(part.name)
            _console.print(f"  {part.name:<13} ready after {time.monotonic() - begun:4.1f} s")


def _all_ready(status: Status) -> bool:
    return status.ready and all(part.state == "ready" for part in status.parts)


def _hopeless(status: Status) -> PartStatus | None:
    bad = (part for part in status.parts if part.restart_count >= _HINT_AFTER and not status.ready)
    return next(bad, None)


def _give_up(home: Home, message: str, log: Path) -> None:
    found = running(home)
    if found:
        asyncio.run(found.supervisor.end(30.0))
    _errors.print(f"The mesh does not start: {escape(message)}", style="red")
    if log.exists():
        _errors.print(escape("\n".join(last_words(log))), highlight=False)
    _errors.print(f"The whole log: {log}; `gathering doctor` looks for the cause.")
    raise typer.Exit(1)


async def _end_leftovers(home: Home) -> list[str]:
    try:
        hold(home)
    except AlreadyRunning:
        return []
    return await end_leftovers(home)


def _table(status: Status) -> Table:
    table = Table(title=f"{status.url}   {'ready' if _all_ready(status) else 'not ready'}")
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
