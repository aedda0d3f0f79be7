"""Workspaces that are made to do harm: what they hold costs nobody else anything."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gathering.skills.v1 import skill_service_pb2
from gathering_mesh.errors import InvalidArgument
from gathering_skills.tools import filesystem
from tests.integration.skills.harness import Caller, Issuer, serving
from tests.support.postgres import TestDatabase

# Tried for ever against a long name that ends otherwise.
BOMB = "*a" * 14 + "b\n"


def below(folder: Path) -> list[Path]:
    """Return all that a folder holds."""
    return sorted(folder.rglob("*"))


async def test_patterns_of_a_workspace_hold_nobody_up(
    admin: Caller, workspace: str, ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ground / ".git").mkdir()
    (ground / ".gitignore").write_text(BOMB)
    (ground / ("a" * 200)).write_text("x")
    monkeypatch.setattr(filesystem, "_TREE_SECONDS", 3.0)
    drawing = asyncio.create_task(admin.refused("fs_tree", workspace))
    while not drawing.done():
        async with asyncio.timeout(2):
            await admin.call("SkillService", "ListSkills", skill_service_pb2.ListSkillsRequest())
        await asyncio.sleep(0.05)
    assert (await drawing)[0] == "TOOL_TIMEOUT"


@pytest.mark.parametrize("path", ["/proc", "/proc/self", "/sys", "/dev", "/"])
async def test_directories_of_the_kernel_are_no_workspaces(
    database: TestDatabase, issuer: Issuer, tmp_path: Path, path: str
) -> None:
    async with serving(database, issuer, tmp_path, ("/",)) as service:
        with pytest.raises(InvalidArgument) as refused:
            await service.caller().workspace(path)
    assert refused.value.reason == "WORKSPACE_ROOT_REFUSED"


async def test_no_workspace_lies_in_or_around_a_closed_directory(
    database: TestDatabase, issuer: Issuer, tmp_path: Path, roots: Path
) -> None:
    closed = roots / "home/keys"
    closed.mkdir(parents=True)
    (roots / "home-of-others").mkdir()
    (roots / "link").symlink_to(closed)
    shut = (str(roots / "home"),)
    async with serving(database, issuer, tmp_path, (str(roots),), closed_directories=shut) as made:
        admin = made.caller()
        for path in (closed, roots / "home", roots, roots / "link"):
            with pytest.raises(InvalidArgument) as refused:
                await admin.workspace(path)
            assert refused.value.reason == "WORKSPACE_ROOT_REFUSED"
        assert await admin.workspace(roots / "home-of-others")


async def test_workspace_in_a_directory_that_was_closed_since_opens_no_more(
    database: TestDatabase, issuer: Issuer, tmp_path: Path, roots: Path, ground: Path
) -> None:
    (ground / "secret").write_text("of another tenant")
    async with serving(database, issuer, tmp_path, (str(roots),)) as service:
        admin = service.caller()
        workspace = await admin.workspace(ground)
    shut = (str(ground),)
    async with serving(database, issuer, tmp_path, (str(roots),), closed_directories=shut) as made:
        _, why = await made.caller(admin.tenant).refused("fs_read", workspace, path="secret")
    assert "no longer allowed" in why


@pytest.mark.parametrize("path", [".git/config", ".git/hooks/pre-commit", "sub/.git", "sub/.git/x"])
async def test_what_git_would_run_is_not_written(
    admin: Caller, workspace: str, ground: Path, path: str
) -> None:
    (ground / ".git/hooks").mkdir(parents=True)
    (ground / "sub/.git").mkdir(parents=True)
    (ground / "mine").write_text("[core]\n\tfsmonitor = touch /tmp/owned\n")
    before = below(ground)
    await admin.refused("fs_write", workspace, path=path, content="x")
    await admin.refused("fs_move", workspace, source="mine", destination=path, overwrite=True)
    await admin.refused("fs_mkdir", workspace, path=path)
    await admin.refused("fs_delete", workspace, path=".git", recursive=True)
    assert below(ground) == before
