"""Each contract of .importlinter is broken once on purpose, in a copy of the tree."""

import os
import shutil
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from tools.import_rules import role_of

ROOT = Path(__file__).parents[2]
SERVICES = ("agent", "orchestrator", "memory", "skills", "gateway")
# Contract's name, planted file, its import.
PLANTED = [
    (
        "Services never import each other",
        "services/agent/gathering_agent/app.py",
        "gathering_skills",
    ),
    ("The mesh knows no service", "mesh/gathering_mesh/planted.py", "gathering_memory"),
    (
        "The mesh speaks only of errors, events and options",
        "mesh/gathering_mesh/planted.py",
        "gathering.memory.v1.memory_pb2",
    ),
    ("The client needs the contract alone", "client/gathering_client/planted.py", "gathering_mesh"),
    ("Nothing imports tests or tools", "mesh/gathering_mesh/planted.py", "tests.support"),
    ("Names that verbs use need no plumbing", "mesh/gathering_mesh/ids.py", "grpc"),
    *(
        ("Inside a service", f"services/{service}/gathering_{service}/{file}", imported)
        for service in SERVICES
        for file, imported in [
            ("models.py", "sqlalchemy"),
            ("planted.py", "grpc"),
            ("ports.py", "google.protobuf"),
            ("planted.py", f"gathering_{service}.store"),
            ("servicer.py", f"gathering_{service}.store"),
            ("servicer.py", f"gathering_{service}.client_planted"),
        ]
    ),
    ("Each library has its owners", "services/skills/gathering_skills/planted.py", "anthropic"),
    ("Each library has its owners", "client/gathering_client/planted.py", "uvloop"),
]
EMPTY_FILES = (
    "__init__",
    "app",
    "models",
    "ports",
    "planted",
    "store",
    "servicer",
    "client_planted",
)


def folders() -> list[str]:
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return list(configuration["tool"]["hatch"]["build"]["dev-mode-dirs"])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the code in which every planted import finds its target."""
    for folder in folders():
        if (ROOT / folder).exists():
            shutil.copytree(
                ROOT / folder,
                tmp_path / folder,
                dirs_exist_ok=True,
                ignore=shutil.ignore_patterns("__pycache__", "*.binpb", "*.pyi"),
            )
    for service in SERVICES:
        package = tmp_path / "services" / service / f"gathering_{service}"
        package.mkdir(parents=True, exist_ok=True)
        for name in EMPTY_FILES:
            (package / f"{name}.py").touch()
    for name in ("client/gathering_client", "deploy/local/gathering_local"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "__init__.py").touch()
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    shutil.copy(ROOT / ".importlinter", tmp_path)
    return tmp_path


def lint_imports(tree: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "300"}
    environment["PYTHONPATH"] = os.pathsep.join(str(tree / folder) for folder in folders())
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"]
    return subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, check=False
    )


def test_planted_imports_each_break_their_contract(tree: Path) -> None:
    assert not planted_lines(lint_imports(tree).stdout), "the copy held a planted import before"

    for _, file, imported in PLANTED:
        with (tree / file).open("a") as module:
            module.write(f"\nimport {imported}\n")
    after = lint_imports(tree)

    assert after.returncode == 1, after.stdout + after.stderr
    assert planted_lines(after.stdout) == PLANTED


def planted_lines(report: str) -> list[tuple[str, str, str]]:
    """Return what of PLANTED the report names, each under its own contract."""
    sections = split_by_contract(report.partition("Broken contracts")[2])
    found = []
    for contract, file, imported in PLANTED:
        importer = ".".join(file.removesuffix(".py").split("/")[-2:])
        target = imported if imported.startswith("gathering") else imported.split(".")[0]
        lines = sections.get(contract, "").splitlines()
        if any(f"{importer} " in line and target in line for line in lines):
            found.append((contract, file, imported))
    return found


def split_by_contract(text: str) -> dict[str, str]:
    starts = sorted((text.index(name), name) for name in {p[0] for p in PLANTED} if name in text)
    ends = [*starts, (len(text), "")]
    return {name: text[start:end] for (start, name), (end, _) in pairwise(ends)}


@pytest.mark.parametrize(
    ("module", "role"),
    [
        ("gathering_agent", "package"),
        ("gathering_agent.turns.turns", "verb"),
        ("gathering_agent.turns.servicer", "servicer"),
        ("gathering_agent.providers.provider_openai", "adapter"),
        ("gathering_orchestrator.circles.store", "store"),
        ("gathering_orchestrator.circles.offers", "verb"),
        ("gathering_memory.migrations.versions.first", "migrations"),
    ],
)
def test_role_follows_from_the_file_name(module: str, role: str) -> None:
    assert role_of(module) == role
