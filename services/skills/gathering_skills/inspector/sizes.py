"""Measure Python sources: lines, functions, classes."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

from gathering_skills.confined.paths import shown
from gathering_skills.inspector.pages import page
from gathering_skills.inspector.task import Answer, Task, Tour, counted, sentence

_UNPARSED = 50


@dataclass
class _Tally:
    lines: int = 0
    code: int = 0
    comments: int = 0
    blank: int = 0
    classes: int = 0
    files: list[tuple[str, int]] = field(default_factory=list)
    functions: list[Answer] = field(default_factory=list)
    unparsed: list[Answer] = field(default_factory=list)


def run(task: Task) -> Answer:
    """Return line counts, and the longest files and functions."""
    tour = Tour(task, task.arguments["path"])
    tally = _Tally()
    for path, content in tour.sources():
        _measure(tally, shown(path), content)
    limit = task.arguments["limit"]
    longest_files = sorted(tally.files, key=lambda item: (-item[1], item[0]))
    longest = sorted(tally.functions, key=lambda f: (-f["line_count"], f["path"], f["line"]))
    return {
        "python_file_count": len(tally.files),
        "line_count": tally.lines,
        "code_line_count": tally.code,
        "comment_line_count": tally.comments,
        "blank_line_count": tally.blank,
        "function_count": len(tally.functions),
        "class_count": tally.classes,
        "longest_files": [{"path": p, "line_count": n} for p, n in longest_files[:limit]],
        "longest_functions": page(longest, 0, limit)[0],
        "unparsed_files": tally.unparsed[:_UNPARSED],
        "message": sentence(_said(tour, tally), *tour.remarks()),
    }


def parsed(content: bytes) -> ast.Module:
    """Return the syntax tree; SyntaxError also for what is broken in another way."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(content)
    except SyntaxError:
        raise
    except (ValueError, RecursionError, MemoryError) as error:
        raise SyntaxError(str(error) or type(error).__name__) from error


def unparsed(path: str, error: SyntaxError) -> Answer:
    """Return what is told about a file that cannot be parsed."""
    return {"path": path, "line": error.lineno or 0, "message": error.msg}


def _measure(tally: _Tally, path: str, content: bytes) -> None:
    lines = content.splitlines()
    kinds = [line.strip()[:1] for line in lines]
    blank, comments = kinds.count(b""), kinds.count(b"#")
    tally.files.append((path, len(lines)))
    tally.lines += len(lines)
    tally.blank += blank
    tally.comments += comments
    tally.code += len(lines) - blank - comments
    try:
        tree = parsed(content)
    except SyntaxError as error:
        tally.unparsed.append(unparsed(path, error))
        return
    for node, name in _definitions(tree):
        if isinstance(node, ast.ClassDef):
            tally.classes += 1
        else:
            count = (node.end_lineno or node.lineno) - node.lineno + 1
            tally.functions.append(
                {"path": path, "line": node.lineno, "name": name, "line_count": count}
            )


_Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _definitions(tree: ast.Module) -> Iterator[tuple[_Definition, str]]:
    """Yield classes and functions with their dotted names; not recursive, trees can be deep."""
    pending: list[tuple[ast.AST, str]] = [(tree, "")]
    while pending:
        node, prefix = pending.pop()
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node, f"{prefix}{node.name}"
            prefix = f"{prefix}{node.name}."
        pending.extend((child, prefix) for child in ast.iter_child_nodes(node))


def _said(tour: Tour, tally: _Tally) -> str:
    if not tally.files:
        return tour.without_python("measure")
    return sentence(
        f"{counted(len(tally.files), 'Python file')}, {counted(tally.lines, 'line')}, "
        f"{counted(len(tally.functions), 'function')}, classes: {tally.classes}.",
        broken(len(tally.unparsed)),
    )


def broken(count: int) -> str:
    """Return the remark that files cannot be parsed, empty if all can."""
    return f"Cannot be parsed: {counted(count, 'file')}." if count else ""
