"""Which module a Python file is, and which file an import means."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from posixpath import dirname


class Modules:
    """The modules of a tree: dotted names to files.

    A folder without `__init__.py` may be where imports begin (a source root) or a namespace
    package, so a file has a name from each such folder above it. A name that several files could
    have is nobody's. A file alone in a folder is found by its neighbours only.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = frozenset(paths)
        self._packages = {dirname(path) for path in self._paths if _is_init(path)}
        self._names: dict[str, str | None] = {}
        for path in sorted(self._paths):
            if path.endswith(".pyi") and path[:-1] in self._paths:
                continue  # the stub beside a source
            for name in self._names_of(path):
                self._names[name] = None if name in self._names else path

    def file_of(self, name: str, importer: str) -> str | None:
        """Return the file that a dotted name or the longest part of it means, None for others."""
        parts = name.split(".")
        for end in range(len(parts), 0, -1):
            found = self._beside(importer, parts[:end]) or self._names.get(".".join(parts[:end]))
            if found and (parts[0] not in sys.stdlib_module_names or _is_top(parts[0], found)):
                return found
        return None

    def relative(self, importer: str, level: int, parts: Sequence[str]) -> str | None:
        """Return the file that an import relative to the importer's folder means."""
        folder = dirname(importer)
        for _ in range(level - 1):
            folder = dirname(folder)
        for end in range(len(parts), -1, -1):
            if found := self._in_folder(folder, parts[:end]):
                return found
        return None

    def _beside(self, importer: str, parts: Sequence[str]) -> str | None:
        """Return what a script finds first: its neighbours."""
        folder = dirname(importer)
        return None if folder in self._packages else self._in_folder(folder, parts)

    def _in_folder(self, folder: str, parts: Sequence[str]) -> str | None:
        base = "/".join([*([folder] if folder else []), *parts])
        init = f"{base}/__init__.py" if base else "__init__.py"
        candidates = (f"{base}.py", f"{base}.pyi", init) if parts else (init,)
        return next((path for path in candidates if path in self._paths), None)

    def _names_of(self, path: str) -> Iterator[str]:
        parts = path.removesuffix(".pyi").removesuffix(".py").split("/")
        if parts[-1] == "__init__":
            parts = parts[:-1]
        for start in range(len(parts)):
            if start and "/".join(parts[:start]) in self._packages:
                return  # below a package no import begins
            if start == 0 or start < len(parts) - 1 or _is_init(path):
                yield ".".join(parts[start:])


def _is_init(path: str) -> bool:
    return path.rpartition("/")[2] in {"__init__.py", "__init__.pyi"}


def _is_top(name: str, path: str) -> bool:
    """Tell whether a file at the top of the tree hides the standard library's module."""
    return path == f"{name}.py" or path.startswith(f"{name}/")
