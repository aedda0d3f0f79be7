"""What tools found, in one form: entries with file, line, rule, what and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gathering_agent.models import JsonObject
from gathering_agent.offline.story import Done, count, rows, shown, text, words_of
from gathering_agent.offline.topics import Topic
from gathering_agent.offline.words import plural

_COMPLEX = 10  # McCabe's own bound
_LONG_FUNCTION = 50  # lines
_LONG_FILE = 500
_WHY_CHARS = 220
_TOP = 8


@dataclass(frozen=True, slots=True)
class Entry:
    """One finding; `line` is 0 where there is none."""

    path: str
    line: int
    rule: str
    what: str
    why: str

    @property
    def where(self) -> str:
        """Return `path:line`."""
        return f"{self.path}:{self.line}" if self.line else self.path


@dataclass(frozen=True, slots=True)
class Found:
    """What one tool call says on a topic. `total` counts more than the entries where it is cut.

    `without_python` is the tool's own word that there was nothing for it to look at.
    """

    topic: Topic
    done: Done
    headline: str
    entries: tuple[Entry, ...] = ()
    total: int = 0
    notes: tuple[str, ...] = ()
    block: str = ""
    without_python: bool = False


def found(topic: Topic, done: Done) -> Found:
    """Read a result; one of an unknown form is shown as it is."""
    reader = _READERS.get(done.tool)
    if reader is None or not done.data:
        return Found(topic, done, f"`{done.tool}` says:", block=done.text[:4000])
    python = done.data.get("python_file_count")
    if done.tool.startswith("analysis_") and done.tool != "analysis_summary" and python == 0:
        said = text(done.data, "message") or "There are no Python files."
        return Found(topic, done, said, without_python=True)
    return reader(topic, done, done.data)


def _lint(topic: Topic, done: Done, data: JsonObject) -> Found:
    totals = rows(data, "totals")
    reasons = {text(one, "rule"): text(one, "why") for one in totals}
    entries = tuple(
        Entry(
            text(one, "path"),
            count(one, "line"),
            f"{text(one, 'rule')} {text(one, 'name')}".strip(),
            text(one, "message"),
            _sentence(reasons.get(text(one, "rule"), "")) or _category(text(one, "rule")),
        )
        for one in rows(data, "findings")
    )
    total = count(data, "finding_count")
    by_rule = ", ".join(f"{text(t, 'rule')} {count(t, 'count')}" for t in totals[:_TOP])
    headline = (
        f"{plural(total, 'finding')} in {plural(count(data, 'python_file_count'), 'Python file')}."
    )
    notes = (f"By rule: {by_rule}.",) if by_rule else ("No rule was broken.",)
    return Found(topic, done, headline, entries, total, notes)


def _sentence(why: str) -> str:
    """Return the first sentence of an explanation."""
    first, dot, _ = " ".join(why.split()).partition(". ")
    return (first + "." if dot else first)[:_WHY_CHARS]


_CATEGORIES = {
    "S": "A security rule: the pattern is known from real attacks or leaks.",
    "B": "A pattern that is often a bug.",
    "F": "What is named is not what is there: dead or broken code.",
    "E9": "The file cannot be read as Python.",
    "PERF": "Costs time that another form does not.",
    "SIM": "Can be said more simply.",
    "RET": "The ways out of the function are harder to follow than they need be.",
    "ASYNC": "Blocks or leaks in asynchronous code.",
    "C90": "Many branches: hard to test and to change.",
}


def _category(rule: str) -> str:
    known = (why for prefix, why in _CATEGORIES.items() if rule.startswith(prefix))
    return next(known, f"Breaks the rule {rule}.")


def _complexity(topic: Topic, done: Done, data: JsonObject) -> Found:
    entries = tuple(
        Entry(
            text(one, "path"),
            count(one, "line"),
            f"complexity {count(one, 'complexity')}",
            f"`{text(one, 'name')}`",
            _why_complex(count(one, "complexity")),
        )
        for one in rows(data, "functions")
    )
    functions, highest = count(data, "function_count"), count(data, "highest")
    headline = f"{plural(functions, 'function')}; the highest complexity is {highest}."
    mean = data.get("mean")
    notes = (f"The mean is {mean}.",) if isinstance(mean, int | float) else ()
    if not entries:
        notes = (*notes, f"No function is above {count(data, 'threshold')}.")
    return Found(topic, done, headline, entries, count(data, "over_threshold_count"), notes)


def _why_complex(value: int) -> str:
    if value > _COMPLEX:
        return f"{value} independent paths, more than {_COMPLEX}: hard to test and to change."
    return f"{value} independent paths; {_COMPLEX} is the usual bound."


def _size(topic: Topic, done: Done, data: JsonObject) -> Found:
    files = tuple(
        Entry(
            text(one, "path"),
            0,
            f"{count(one, 'line_count')} lines",
            "file",
            _why_long(count(one, "line_count"), _LONG_FILE),
        )
        for one in rows(data, "longest_files")
    )
    functions = tuple(
        Entry(
            text(one, "path"),
            count(one, "line"),
            f"{count(one, 'line_count')} lines",
            f"`{text(one, 'name')}`",
            _why_long(count(one, "line_count"), _LONG_FUNCTION),
        )
        for one in rows(data, "longest_functions")
    )
    broken = tuple(
        f"`{text(one, 'path')}:{count(one, 'line')}` cannot be parsed: {text(one, 'message')}."
        for one in rows(data, "unparsed_files")
    )
    headline = (
        f"{plural(count(data, 'python_file_count'), 'Python file')}, {count(data, 'line_count')} "
        f"lines, {count(data, 'code_line_count')} of them code; "
        f"{plural(count(data, 'function_count'), 'function')}, "
        f"{count(data, 'class_count')} classes."
    )
    total = count(data, "python_file_count") + count(data, "function_count")
    return Found(topic, done, headline, files + functions, total, broken)


def _why_long(lines: int, bound: int) -> str:
    return (
        f"More than {bound} lines: more than one thing at once." if lines > bound else "In bounds."
    )


def _imports(topic: Topic, done: Done, data: JsonObject) -> Found:
    cycles = list(_cycles(data))
    entries = tuple(
        Entry(
            cycle[0],
            0,
            "import cycle",
            " -> ".join([*cycle, cycle[0]]),
            "None of these modules can be loaded, tested or moved without the others.",
        )
        for cycle in cycles
    )
    total = count(data, "cycle_count")
    modules = plural(count(data, "module_count"), "module")
    headline = (
        f"There are no import cycles among {modules}."
        if total == 0
        else f"{plural(total, 'import cycle')} among {modules}."
    )
    outside = [text(one, "name") for one in rows(data, "third_party")]
    used = [
        f"{text(one, 'name') or text(one, 'path')} ({count(one, 'importer_count')})"
        for one in rows(data, "most_imported")
    ]
    notes = [f"{count(data, 'import_count')} imports."] if "import_count" in data else []
    notes += [f"Third-party packages: {', '.join(outside[:20])}."] if outside else []
    notes += [f"Most imported modules: {', '.join(used[:_TOP])}."] if used else []
    return Found(topic, done, headline, entries, total, tuple(notes))


def _cycles(data: JsonObject) -> Iterator[list[str]]:
    found_cycles = data.get("cycles")
    for one in found_cycles if isinstance(found_cycles, list) else []:
        modules = one.get("modules") if isinstance(one, dict) else one
        if isinstance(modules, list) and modules:
            yield [
                text(module, "path") or text(module, "name")
                if isinstance(module, dict)
                else str(module)
                for module in modules
            ]


def _tree(topic: Topic, done: Done, data: JsonObject) -> Found:
    headline = (
        f"{plural(count(data, 'file_count'), 'file')} in "
        f"{plural(count(data, 'directory_count'), 'directory')}."
    )
    notes = (text(data, "message"),) if text(data, "message") else ()
    return Found(topic, done, headline, notes=notes, block=text(data, "tree"))


def _overview(topic: Topic, done: Done, data: JsonObject) -> Found:
    types = ", ".join(
        f"{text(one, 'extension') or 'none'} {count(one, 'file_count')}"
        for one in rows(data, "file_types")[:_TOP]
    )
    largest = tuple(
        Entry(text(one, "path"), 0, f"{count(one, 'size_bytes')} bytes", "file", "")
        for one in rows(data, "largest_files")
    )
    packages = words_of(data, "packages")
    notes = [f"By type: {types}."] if types else []
    notes += [f"Python packages: {', '.join(packages[:20])}."] if packages else []
    headline = text(data, "message") or plural(count(data, "file_count"), "file") + "."
    return Found(topic, done, headline, largest, count(data, "file_count"), tuple(notes))


def _search(topic: Topic, done: Done, data: JsonObject) -> Found:
    pattern = str(done.arguments.get("pattern", ""))
    entries = tuple(
        Entry(text(one, "path"), count(one, "line"), pattern, text(one, "text").strip()[:160], "")
        for one in rows(data, "matches")
    )
    total = count(data, "match_count")
    files = count(data, "matching_file_count")
    headline = (
        f"`{pattern}` does not occur in {plural(count(data, 'searched_file_count'), 'file')}."
        if not total
        else f"`{pattern}` occurs in {plural(total, 'line')} of {plural(files, 'file')}."
    )
    return Found(topic, done, headline, entries, total)


_READERS: dict[str, Callable[[Topic, Done, JsonObject], Found]] = {
    "analysis_lint": _lint,
    "analysis_complexity": _complexity,
    "analysis_size": _size,
    "analysis_imports": _imports,
    "analysis_summary": _overview,
    "fs_tree": _tree,
    "search_text": _search,
}


def called(done: Done) -> str:
    """Return a call as it is told in a report."""
    return f"{done.tool}({shown(done.arguments)})"
