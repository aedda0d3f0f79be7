"""The examples in docs/ do what they say, against a mesh that they know nothing else of."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from tests.e2e.mesh import LocalMesh

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
_CANNOT_BUILD = 75


async def ran(
    mesh: LocalMesh, *command: str | Path, folder: Path, seconds: float = 120.0, **environment: str
) -> tuple[int, str]:
    """Run a program with what an example is told; return its exit status and output."""
    email, password = mesh.admin
    told = {
        "GATHERING_URL": mesh.url,
        "GATHERING_EMAIL": email,
        "GATHERING_PASSWORD": password,
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd=folder,
        env={**os.environ, **told, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(seconds):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, output.decode()


def needed(*programs: str) -> None:
    """Skip where a program is not on this machine."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program} on this machine")


async def node_major() -> int:
    """Return the version of Node."""
    process = await asyncio.create_subprocess_exec(
        "node", "--version", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return int(output.decode().removeprefix("v").partition(".")[0])


async def test_node_client_chats_and_resumes(mesh: LocalMesh, tmp_path: Path) -> None:
    needed("node", "npm")
    folder = tmp_path / "node"
    shutil.copytree(EXAMPLES / "node", folder, ignore=shutil.ignore_patterns("node_modules"))
    command = ("npm", "ci", "--prefer-offline", "--fetch-retries=1", "--fetch-timeout=20000")
    try:
        status, output = await ran(mesh, *command, folder=folder, seconds=90)
    except TimeoutError:
        pytest.skip("npm reaches no registry here")
    if status:
        pytest.skip(f"npm cannot install the packages here: {output[-500:]}")
    status, output = await ran(mesh, "node", "client.mjs", folder=folder)
    assert status == 0, output
    assert "I am the offline model" in output
    assert "nothing was missed" in output


async def test_grpc_web_client_sees_what_it_made(mesh: LocalMesh) -> None:
    needed("node")
    status, output = await ran(mesh, "node", "client.mjs", folder=EXAMPLES / "grpc-web")
    assert status == 0, output
    assert "saw the agent that was made" in output
    assert "refused as it should be: 3: agent_id" in output


async def test_websocket_client_chats_and_sees_the_event(mesh: LocalMesh) -> None:
    needed("node")
    flags = []
    if await node_major() < 22:
        flags = ["--experimental-websocket"]
        if await node_major() < 20:
            pytest.skip("this Node has no WebSocket; version 22 has")
    status, output = await ran(mesh, "node", *flags, "client.mjs", folder=EXAMPLES / "websocket")
    assert status == 0, output
    assert "saw its event; closed with 1000" in output


async def test_curl_script_chats_and_resumes(mesh: LocalMesh) -> None:
    needed("bash", "curl")
    status, output = await ran(mesh, "bash", "chat.sh", folder=EXAMPLES / "curl")
    assert status == 0, output
    assert "nothing was missed" in output


@pytest.mark.skipif(
    "GATHERING_TEST_JAVA" not in os.environ,
    reason="javac takes most of a minute of a processor; GATHERING_TEST_JAVA=1 runs it",
)
async def test_java_client_chats_and_resumes(mesh: LocalMesh, tmp_path: Path) -> None:
    folder = EXAMPLES / "java"
    status, output = await ran(
        mesh, folder / "run", folder=folder, seconds=220, BUILD=str(tmp_path)
    )
    if status == _CANNOT_BUILD:
        pytest.skip(output)
    assert status == 0, output
    assert "nothing was missed" in output


def test_lock_of_the_node_client_names_no_registry() -> None:
    lock = (EXAMPLES / "node" / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    assert lock.count('"integrity"') > 20
