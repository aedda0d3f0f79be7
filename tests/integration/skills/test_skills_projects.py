"""What a workspace is the home of: read from its files, kept until they change, never obeyed."""

from __future__ import annotations

from pathlib import Path

import pytest

from gathering.skills.v1 import project_context_pb2, workspace_service_pb2
from gathering_mesh.errors import DomainError
from gathering_mesh.ids import new_id
from tests.integration.skills.harness import Caller, Service

PYPROJECT = """
[project]
name = "boats"
description = "Keeps boats."
requires-python = ">=3.11"
scripts = {boats = "boats.cli:main"}
[tool.ruff]
line-length = 90
[tool.mypy]
strict = true
"""
PACKAGE = '{"name": "js", "scripts": {"dev": "vite"}, "devDependencies": {"vite": 1}}'
RUN = "!!python/object/apply:os.system [id]"
OWN = """
description: A harbour.
conventions: [small boats, no noise]
commands: {start: make up}
notes: |
  Tides matter.
"""


async def project(caller: Caller, workspace: str) -> project_context_pb2.ProjectContext:
    request = workspace_service_pb2.GetProjectContextRequest(workspace_id=workspace)
    found: project_context_pb2.ProjectContext = await caller.call(
        "WorkspaceService", "GetProjectContext", request
    )
    return found


def write(ground: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = ground / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


async def test_project_is_told_by_its_files_the_own_one_first(
    admin: Caller, workspace: str, ground: Path
) -> None:
    files = {
        ".gathering/project.yaml": OWN,
        "pyproject.toml": PYPROJECT,
        "package.json": PACKAGE,
        "README.md": "# Boats\n\nThe boats of the harbour.\nAll of them.\n\n## More\n",
        "Makefile": "VAR := 1\ntest: deps  ## Run the tests\n\tpytest\nup:\n\trun\n",
        ".venv/pyvenv.cfg": "home = /usr\nversion = 3.11.7\n",
        ".git/HEAD": "ref: refs/heads/tides\n",
        ".git/config": '[remote "origin"]\n\turl = https://me:secret@git.example/boats.git\n',
        "src/boats/cli.py": "print('never run')\n",
    }
    write(ground, files)
    found = await project(admin, workspace)
    assert (found.name, found.description) == ("boats", "A harbour.")
    assert (found.python_version, found.venv_path) == (">=3.11", ".venv")
    assert list(found.conventions) == [
        "small boats",
        "no noise",
        "lines of at most 90 characters (ruff)",
        "types are checked strictly (mypy)",
    ]
    assert {one.name: one.command for one in found.commands} == {
        "start": "make up",
        "boats": "boats.cli:main",
        "npm run dev": "vite",
        "make test": "Run the tests",
        "make up": "make up",
    }
    assert {"ruff", "mypy", "vite", "make", "node"} <= set(found.tools)
    assert list(found.key_files) == ["README.md", "pyproject.toml", "package.json", "Makefile"]
    assert (found.git_branch, found.git_remote) == ("tides", "https://git.example/boats.git")
    assert found.notes == "Tides matter."
    assert "src/\n  boats/" in found.tree
    assert "secret" not in str(found)
    assert ".gathering/project.yaml" in found.sources
    assert not found.unreadable


async def test_project_changes_with_its_files(admin: Caller, workspace: str, ground: Path) -> None:
    assert (await project(admin, workspace)).name == ""
    write(ground, {"pyproject.toml": PYPROJECT})
    assert (await project(admin, workspace)).name == "boats"
    write(ground, {"pyproject.toml": PYPROJECT.replace("boats", "ships"), "src/new.py": ""})
    found = await project(admin, workspace)
    assert found.name == "ships"
    assert "new.py" in found.tree


async def test_hostile_files_are_named_and_do_no_harm(
    admin: Caller, workspace: str, ground: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret.toml").write_text('[project]\nname = "secret"\n')
    (ground / "pyproject.toml").symlink_to(tmp_path / "secret.toml")
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    write(
        ground,
        {
            ".gathering/project.yaml": f"{bomb}conventions: *i\nname: {RUN}",
            "package.json": "[" * 200_000,
            "README.md": "x" * 1_000_000,
            "Makefile": "\0" * 100_000 + "a" * 100_000,
        },
    )
    (ground / ".git").mkdir()
    (ground / ".git/HEAD").mkdir()
    for n in range(300):
        (ground / f"file{n}").touch()
    found = await project(admin, workspace)
    assert set(found.unreadable) == {
        ".gathering/project.yaml",
        "pyproject.toml",
        "package.json",
        "README.md",
        ".git/HEAD",
    }
    assert "secret" not in str(found)
    assert found.tree_cut
    assert found.ByteSize() < 20_000


async def test_project_of_another_tenant_is_not_found(
    service: Service, admin: Caller, workspace: str
) -> None:
    for caller, name in ((service.caller(tenant=new_id("ten")), workspace), (admin, new_id("wsp"))):
        with pytest.raises(DomainError) as caught:
            await project(caller, name)
        assert caught.value.status == "NOT_FOUND"
