"""Runs `gathering_skills.inspector` as a process for each job, and ends it with all it started."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from gathering_skills.errors import ToolError
from gathering_skills.models import JsonObject
from gathering_skills.ports import Tell

_MODULE = "gathering_skills.inspector.child"
_SCRATCH = "gathering-skills-"
_OWN_SHARE = 0.9  # of the time, after which a job answers with what it has
_LONGEST_STDERR = 2000
_CHUNK = 256 * 1024  # bytes
_log = logging.getLogger(__name__)


class InspectorProcess:
    """At most so many processes at once; others wait."""

    def __init__(self, ruff: Path, scratch: Path, processes: int) -> None:
        self._ruff = ruff
        self._scratch = scratch
        self._places = asyncio.Semaphore(processes)

    async def inspect(
        self,
        descriptor: int,
        job: str,
        arguments: Mapping[str, Any],
        seconds: float,
        tell: Tell | None = None,
    ) -> JsonObject:
        """Do a job in the directory of a descriptor; ToolError when it fails or takes longer."""
        request = {
            "job": job,
            "arguments": arguments,
            "seconds": seconds * _OWN_SHARE,
            "ruff": str(self._ruff),
        }
        async with self._places:
            scratch = tempfile.mkdtemp(dir=self._scratch)
            try:
                request["scratch"] = scratch
                answer = await self._ask(descriptor, request, seconds, tell)
            finally:  # the process may have been killed
                await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)
        if "error" in answer:
            raise ToolError(answer["error"], answer["reason"] or "TOOL_FAILED")
        return cast("JsonObject", answer["result"])

    async def _ask(
        self, descriptor: int, request: Mapping[str, Any], seconds: float, tell: Tell | None
    ) -> dict[str, Any]:
        # Its environment is its own: ours holds secrets. A group of its own: it is killed whole.
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-m", _MODULE, str(descriptor), str(os.getpid()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=(descriptor,),
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
            cwd="/",
            start_new_session=True,
        )  # fmt: skip
        try:
            async with asyncio.timeout(seconds):
                out, said = await _communicate(process, json.dumps(request).encode(), tell)
        except TimeoutError as error:
            problem = f"it took longer than {seconds:.0f} seconds"
            raise ToolError(problem, "TOOL_TIMEOUT") from error
        finally:
            await _end(process)
        if process.returncode != 0:
            told = said.decode("utf-8", "replace")[-_LONGEST_STDERR:]
            _log.warning(
                "inspector: %s ended with %s: %s", request["job"], process.returncode, told
            )
            raise ToolError(_death(process.returncode or 0))
        answer: dict[str, Any] = json.loads(out)
        return answer


async def _communicate(
    process: asyncio.subprocess.Process, request: bytes, tell: Tell | None
) -> tuple[bytes, bytes]:
    """Hand a request over; return the answer and standard error, tell what comes before it."""
    assert process.stdin and process.stdout and process.stderr  # noqa: S101 (they are pipes)
    errors = asyncio.ensure_future(process.stderr.read())
    try:
        with suppress(BrokenPipeError, ConnectionResetError):  # it died; its status says of what
            process.stdin.write(request)
            await process.stdin.drain()
            process.stdin.close()
        answer = await _told(process.stdout, tell)
        said = await errors
        await process.wait()
    finally:
        errors.cancel()
    return answer, said


async def _told(out: asyncio.StreamReader, tell: Tell | None) -> bytes:
    """Tell each line, a text in JSON; return the rest, which is the answer."""
    rest = b""
    while data := await out.read(_CHUNK):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if tell is not None:
                await tell(json.loads(line))
    return rest


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill the whole group, of which the process itself may have ended, and collect it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _death(code: int) -> str:
    if code < 0:
        return f"the process that looked at the files was killed by {signal.Signals(-code).name}"
    return "the process that looked at the files failed"


@contextmanager
def scratch_folder(parent: Path | None) -> Iterator[Path]:
    """Lend a folder for copies; those of processes that were killed go first."""
    base = Path(parent or tempfile.gettempdir())
    for left in base.glob(f"{_SCRATCH}*-*"):
        owner = left.name.removeprefix(_SCRATCH).partition("-")[0]
        if owner.isdigit() and not Path("/proc", owner).exists():
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{_SCRATCH}{os.getpid()}-", dir=base))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
