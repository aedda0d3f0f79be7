"""Draw the imports of a Python tree: its own modules, the standard library, third parties."""

from __future__ import annotations

import ast
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from gathering_skills.confined.paths import shown
from gathering_skills.inspector.cycles import cycles_of
from gathering_skills.inspector.modules import Modules
from gathering_skills.inspector.pages import page, whole
from gathering_skills.inspector.sizes import broken as remark
from gathering_skills.inspector.sizes import parsed, unparsed
from gathering_skills.inspector.task import Answer, Task, Tour, counted, sentence

_UNPARSED = 50
_FILES = 5
_LISTED = 60


@dataclass
class _Graph:
    modules: Modules
    edges: set[tuple[str, str]] = field(default_factory=set)
    at_import: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    outside: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    import_count: int = 0


@dataclass(frozen=True)
class _Import:
    """One imported name; `late`: not when the module is loaded (in a function, for types only)."""

    name: str
    level: int
    late: bool


def run(task: Task) -> Answer:
    """Return who imports whom, what comes from outside, and which modules import each other."""
    tour = Tour(task, task.arguments["path"])
    sources: dict[str, list[_Import]] = {}
    broken: list[Answer] = []
    for path, content in tour.sources():
        sources[path] = []
        try:
            sources[path] = list(_imports(parsed(content)))
        except SyntaxError as error:
            broken.append(unparsed(shown(path), error))
    graph = _Graph(Modules(sources))
    for path, imports in sources.items():
        for item in imports:
            _add(graph, path, item)
    return _told(task, tour, graph, len(sources), broken)


def _told(task: Task, tour: Tour, graph: _Graph, count: int, broken: list[Answer]) -> Answer:
    limit = task.arguments["limit"]
    library = {name for name in graph.outside if name in sys.stdlib_module_names}
    own = {imported.partition("/")[0].removesuffix(".py") for _, imported in graph.edges}
    third = {name: files for name, files in graph.outside.items() if name not in library | own}
    imported = Counter(target for _, target in graph.edges)
    cycles = cycles_of(graph.at_import)
    edges = [{"importer": shown(a), "imported": shown(b)} for a, b in sorted(graph.edges)]
    for edge in edges:
        task.tell("{importer} imports {imported}\n".format_map(edge))
    return {
        "python_file_count": count,
        "module_count": count,
        "import_count": graph.import_count,
        "third_party": [
            {"name": name, "file_count": len(files), "files": _some(files)}
            for name, files in _by_use(third)[:_LISTED]
        ],
        "standard_library": [
            {"name": name, "file_count": len(graph.outside[name])}
            for name, _ in _by_use({name: graph.outside[name] for name in library})[:_LISTED]
        ],
        "most_imported": [
            {"path": shown(path), "importer_count": number}
            for path, number in sorted(imported.items(), key=lambda i: (-i[1], i[0]))[:20]
        ],
        "cycle_count": len(cycles),
        "cycles": page(
            [{"modules": [shown(p) for p in c.members[:20]], "size": len(c.members),
              "example": [shown(p) for p in c.example]} for c in cycles], 0, 20,
        )[0],
        "edge_count": len(edges),
        "edges": page(edges, 0, limit)[0],
        "unparsed_files": broken[:_UNPARSED],
        "message": sentence(
            _said(tour, graph, count, len(third), len(cycles)),
            remark(len(broken)),
            f"The first {limit} of {len(edges)} edges are listed." if len(edges) > limit else "",
            whole(cut=len(edges) > limit),
            *tour.remarks(),
        ),
    }  # fmt: skip


def _imports(tree: ast.Module) -> Iterator[_Import]:
    """Yield what is imported; not recursive, trees can be deep."""
    pending: list[tuple[ast.AST, bool]] = [(tree, False)]
    while pending:
        node, late = pending.pop()
        if isinstance(node, ast.Import):
            yield from (_Import(alias.name, 0, late) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [node.module] if node.module else []
            for alias in node.names:
                name = ".".join([*base, *([] if alias.name == "*" else [alias.name])])
                yield _Import(name, node.level, late)
        elif isinstance(node, ast.If) and _is_type_checking(node.test):
            pending.extend((child, True) for child in node.body)
            pending.extend((child, late) for child in node.orelse)
        else:
            inner = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            pending.extend((child, inner) for child in ast.iter_child_nodes(node))


def _is_type_checking(test: ast.expr) -> bool:
    if isinstance(test, ast.Attribute):
        return test.attr == "TYPE_CHECKING"
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


def _add(graph: _Graph, path: str, item: _Import) -> None:
    graph.import_count += 1
    if item.level:
        parts = item.name.split(".") if item.name else []
        target = graph.modules.relative(path, item.level, parts)
    else:
        target = graph.modules.file_of(item.name, path)
    if target is None:
        if not item.level:
            graph.outside[item.name.partition(".")[0]].add(path)
    elif target != path:
        graph.edges.add((path, target))
        if not item.late:
            graph.at_import[path].add(target)


def _by_use(names: dict[str, set[str]]) -> list[tuple[str, set[str]]]:
    return sorted(names.items(), key=lambda item: (-len(item[1]), item[0]))


def _some(files: set[str]) -> list[str]:
    return [shown(path) for path in sorted(files)[:_FILES]]


def _said(tour: Tour, graph: _Graph, count: int, third: int, cycles: int) -> str:
    if not count:
        return tour.without_python("draw imports of")
    knots = counted(cycles, "circle") if cycles else "no circle"
    return (
        f"{counted(count, 'Python file')}, {counted(len(graph.edges), 'import')} between them, "
        f"{counted(third, 'third-party package')}; {knots} of imports."
    )
