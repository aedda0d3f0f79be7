"""Tell what a workspace is the home of, by the files that say so. Nothing of it is run.

What `.gathering/project.yaml` says comes first, then pyproject.toml, package.json, README, Makefile
and the repository. Each is read up to a bound, and one that cannot be read is named.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from gathering_skills.confined.contents import read_up_to
from gathering_skills.confined.paths import shown
from gathering_skills.confined.root import Kind
from gathering_skills.confined.walking import Walker
from gathering_skills.errors import NoSuchFile, ToolError
from gathering_skills.inspector.task import Answer, Task

LARGEST = 256 * 1024  # bytes that are read of a file
_TEXT, _WORD = 500, 200  # characters of a text, of a word
_LISTED, _COMMANDS = 20, 30
_TREE, _DEPTH = 80, 2  # entries and levels
_KEY_FILES = (
    "README.md", "README.rst", "README", "CONTRIBUTING.md", "AGENTS.md", "pyproject.toml",
    "setup.py", "requirements.txt", "package.json", "tsconfig.json", "Cargo.toml", "go.mod",
    "pom.xml", "Makefile", "Dockerfile", "compose.yaml", "docker-compose.yml", "LICENSE",
)  # fmt: skip
_TOOLS_BY_FILE = {
    "Cargo.toml": "cargo", "go.mod": "go", "pom.xml": "maven", "Makefile": "make",
    "Dockerfile": "docker", "compose.yaml": "docker compose", "docker-compose.yml":
    "docker compose", "tsconfig.json": "typescript", "package.json": "node",
    "requirements.txt": "pip", "setup.py": "setuptools",
}  # fmt: skip
_TARGET = re.compile(r"^([A-Za-z0-9][\w.-]*)\s*:(?![:=])(?:[^#\n]*##\s*(.*))?", re.MULTILINE)
_USER_INFO = re.compile(r"(?<=://)[^/@\s]*@")
_REMOTE = re.compile(r'\[remote "origin"\][^\[]*?\burl\s*=\s*(\S+)')
_HEADING = re.compile(r"^(#+|=+|-+|!?\[|<|\s*$)")
_UNREADABLE = (ValueError, RecursionError, TypeError, AttributeError, yaml.YAMLError)


@dataclass
class _Project:
    """What is known so far; who comes first has his way."""

    name: str = ""
    description: str = ""
    python_version: str = ""
    venv_path: str = ""
    tools: list[str] = field(default_factory=list)
    conventions: list[str] = field(default_factory=list)
    key_files: list[str] = field(default_factory=list)
    commands: dict[str, str] = field(default_factory=dict)
    notes: str = ""
    git_branch: str = ""
    git_remote: str = ""
    sources: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    def say(self, name: str, value: object, longest: int = _WORD) -> None:
        """Take a text, unless one is there."""
        if isinstance(value, str | int | float) and not getattr(self, name):
            setattr(self, name, " ".join(str(value).split())[:longest])

    def add(self, name: str, values: object) -> None:
        """Take words of a list."""
        known: list[str] = getattr(self, name)
        for value in values if isinstance(values, list | tuple) else ():
            word = " ".join(str(value)[: _WORD * 2].split())[:_WORD]
            if isinstance(value, str | int | float) and word and word not in known:
                if len(known) >= _LISTED:
                    return
                known.append(word)

    def command(self, name: object, line: object) -> None:
        """Take a command, unless one of its name is there."""
        if isinstance(name, str) and isinstance(line, str) and len(self.commands) < _COMMANDS:
            self.commands.setdefault(name[:_WORD], " ".join(line[:_TEXT].split())[:_WORD])


def run(task: Task) -> Answer:
    """Return what the files of a workspace say of it."""
    project = _Project()
    for path, read in _READERS:
        _take(task, project, path, read)
    project.add("key_files", [path for path in _KEY_FILES if _is_file(task, path)])
    project.add("tools", [tool for path, tool in _TOOLS_BY_FILE.items() if _is_file(task, path)])
    tree, cut = _tree(task)
    return {
        "name": project.name,
        "description": project.description,
        "python_version": project.python_version,
        "venv_path": project.venv_path,
        "tools": project.tools,
        "conventions": project.conventions,
        "key_files": project.key_files,
        "commands": [{"name": n, "command": line} for n, line in project.commands.items()],
        "notes": project.notes,
        "git_branch": project.git_branch,
        "git_remote": project.git_remote,
        "tree": tree,
        "tree_cut": cut,
        "sources": project.sources,
        "unreadable": project.unreadable,
    }


def _take(task: Task, project: _Project, path: str, read: Callable[[_Project, str], None]) -> None:
    try:
        with task.root.file(path) as descriptor:
            content = read_up_to(descriptor, LARGEST + 1)
    except NoSuchFile:
        return
    except ToolError:  # no regular file, or a link that leads out
        project.unreadable.append(path)
        return
    try:
        if len(content) > LARGEST:
            raise ValueError("too large")
        read(project, content.decode("utf-8", "replace").replace("\0", "\ufffd"))
    except _UNREADABLE:
        project.unreadable.append(path)
    else:
        project.sources.append(path)


def _own(project: _Project, text: str) -> None:
    said = yaml.safe_load(text)
    if not isinstance(said, dict):
        raise TypeError("no mapping")
    for name in ("name", "description", "python_version", "venv_path", "notes"):
        project.say(name, said.get(name), _TEXT)
    for name in ("tools", "conventions", "key_files"):
        project.add(name, said.get(name))
    for name, line in _items(said.get("commands")):
        project.command(name, line)


def _pyproject(project: _Project, text: str) -> None:
    said = tomllib.loads(text)
    told = _mapping(said.get("project")) or _mapping(_mapping(said.get("tool")).get("poetry"))
    project.say("name", told.get("name"))
    project.say("description", told.get("description"), _TEXT)
    project.say("python_version", told.get("requires-python"))
    for name, target in _items(told.get("scripts")):
        project.command(name, target)
    tools = _mapping(said.get("tool"))
    project.add("tools", [name for name in tools if name != "poetry" or name in tools])
    length = _mapping(tools.get("ruff")).get("line-length")
    if length is not None:
        project.add("conventions", [f"lines of at most {length} characters (ruff)"])
    if _mapping(tools.get("mypy")).get("strict") is True:
        project.add("conventions", ["types are checked strictly (mypy)"])


def _package(project: _Project, text: str) -> None:
    said = json.loads(text)
    if not isinstance(said, dict):
        raise TypeError("no object")
    project.say("name", said.get("name"))
    project.say("description", said.get("description"), _TEXT)
    for name, line in _items(said.get("scripts")):
        project.command(f"npm run {name}", line)
    project.add("tools", [name for name, _ in _items(said.get("devDependencies"))][:10])


def _readme(project: _Project, text: str) -> None:
    """Take the title, and the first paragraph."""
    lines = text.splitlines()
    title = next((line for line in lines if line.strip()), "")
    project.say("name", title.lstrip("# ").strip())
    paragraph: list[str] = []
    for line in lines[1:]:
        if not _HEADING.match(line):
            paragraph.append(line.strip())
        elif paragraph:
            break
    project.say("description", " ".join(paragraph), _TEXT)


def _makefile(project: _Project, text: str) -> None:
    for found in _TARGET.finditer(text):
        project.command(f"make {found[1]}", found[2] or f"make {found[1]}")


def _venv(project: _Project, text: str) -> None:
    project.say("venv_path", ".venv")
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key.strip() in ("version", "version_info"):
            project.say("python_version", value.strip())


def _version(project: _Project, text: str) -> None:
    project.say("python_version", text.strip().splitlines()[0] if text.strip() else "")


def _head(project: _Project, text: str) -> None:
    project.say("git_branch", text.strip().removeprefix("ref: refs/heads/"))


def _config(project: _Project, text: str) -> None:
    """Take the remote, without the name and password that may stand in it."""
    if found := _REMOTE.search(text):
        project.say("git_remote", _USER_INFO.sub("", found[1]))


_READERS: tuple[tuple[str, Callable[[_Project, str], None]], ...] = (
    (".gathering/project.yaml", _own),
    ("pyproject.toml", _pyproject),
    ("package.json", _package),
    ("README.md", _readme),
    ("README.rst", _readme),
    ("Makefile", _makefile),
    (".python-version", _version),
    (".venv/pyvenv.cfg", _venv),
    (".git/HEAD", _head),
    (".git/config", _config),
)
READ = (*(path for path, _ in _READERS), *_KEY_FILES)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    return iter(list(_mapping(value).items())[:_COMMANDS])


def _is_file(task: Task, path: str) -> bool:
    entry = task.root.entry(path)
    return entry is not None and entry.kind is Kind.FILE


def _tree(task: Task) -> tuple[str, bool]:
    lines: list[str] = []
    for found in Walker(task.root, lambda: None).walk(".", _DEPTH):
        if len(lines) >= _TREE or task.late:
            return "\n".join(lines), True
        mark = "/" if found.entry.kind is Kind.DIRECTORY else ""
        lines.append("  " * (found.depth - 1) + shown(found.entry.name)[:_WORD] + mark)
    return "\n".join(lines), False
