"""What tools pass over: folders of other tools, and what the workspace's .gitignore names.

The folders are those that ruff leaves out by itself, and two more.
As git does, a .gitignore counts only in a repository: where the workspace has a `.git`.
"""

from __future__ import annotations

import os

from pathspec import GitIgnoreSpec

from gathering_skills.confined.contents import read_up_to

# What ruff leaves out by itself, and what it has to be told to.
_RUFFS = frozenset({
    ".bzr", ".direnv", ".eggs", ".git", ".git-rewrite", ".hg", ".ipynb_checkpoints",
    ".mypy_cache", ".nox", ".pants.d", ".pyenv", ".pytest_cache", ".pytype", ".ruff_cache",
    ".svn", ".tox", ".venv", ".vscode", "__pypackages__", "_build", "buck-out", "dist",
    "node_modules", "site-packages", "venv",
})  # fmt: skip
BESIDE_RUFFS = ("__pycache__", "build")
FOLDERS = _RUFFS.union(BESIDE_RUFFS)
_FILE = ".gitignore"
_LARGEST = 1024 * 1024


class Ignored:
    """The rules that hold in one folder: its own, and those of the folders above."""

    def __init__(self, above: tuple[tuple[str, GitIgnoreSpec], ...] = ()) -> None:
        self._rules = above

    @classmethod
    def at_top(cls, directory: int) -> Ignored | None:
        """Return the rules of the workspace, None where it is no repository."""
        if not _exists(directory, ".git"):
            return None
        exclude = _read(directory, ".git/info/exclude")
        rules = cls((("", exclude),) if exclude else ())
        return rules.within(directory, "")

    def within(self, directory: int, path: str) -> Ignored:
        """Return the rules that hold in an open folder below; `path` is empty at the top."""
        own = _read(directory, _FILE)
        return Ignored((*self._rules, (path, own))) if own else self

    def hides(self, path: str, *, folder: bool) -> bool:
        """Tell whether a path is left out; the nearest rule that names it decides."""
        for base, spec in reversed(self._rules):
            local = path.removeprefix(f"{base}/") if base else path
            verdict = spec.check_file(f"{local}/" if folder else local).include
            if verdict is not None:
                return verdict
        return False


def _exists(directory: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    return True


def _read(directory: int, name: str) -> GitIgnoreSpec | None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, dir_fd=directory)
    except OSError:
        return None
    try:
        text = read_up_to(descriptor, _LARGEST).decode("utf-8", "replace")
        return GitIgnoreSpec.from_lines(text.splitlines())
    except (OSError, ValueError):  # no file, or a pattern that git would not understand either
        return None
    finally:
        os.close(descriptor)
