"""Choose tools for a request by its words, and fill their arguments from it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gathering_agent.models import JsonObject, JsonValue
from gathering_agent.offline.words import (
    LONGEST,
    QUOTED,
    alike,
    folders,
    globs,
    numbers,
    overlap,
    paths,
    quoted,
    stems,
)
from gathering_agent.providers.models_dialogue import ToolSpec

_NAME_WEIGHT = 3.0
_SCHEMA_WEIGHT = 0.5
_LEAST_SCORE = 2.5
_CLOSE = 0.8  # of the best score: the tool with fewer missing arguments wins
# What people say, beside what tools call it.
_SAYINGS = (
    (r"\bwhat files\b|\blist (?:the |all )?files\b|\bwhich files\b|\bfiles are (?:here|there)\b",
     "tree list directory"),
    (r"\b(?:find|search for|grep|look for|occurrences? of|where is|contains?)\b", "search text"),
    (r"\b(?:read|open|show|print|display|cat)\b(?=.*\.\w)", "read file content"),
    (r"\b(?:what does|what is in|contents? of|explain|look at)\b(?=.*\.\w)", "read file content"),
    (r"\b(?:write|save)\b(?=.*\.\w)", "write file content"),
    (r"\b(?:most )?complex", "complexity functions"),
    (r"\b(?:longest|largest|biggest|how many lines|how big|how large)\b", "size lines longest"),
    (r"\b(?:lint|bugs?|problems?|wrong with|security|ruff)\b", "lint findings"),
    (r"\b(?:imports?|cycles?|circular|dependenc\w+|depends?)\b", "imports cycles modules"),
    (r"\b(?:delete|remove)\b(?=.*\.\w)", "delete file"),
    (r"\b(?:overview|summary of|summari[sz]e|what is (?:in )?(?:here|this))\b",
     "summary directory"),
)  # fmt: skip
_AFTER_SEARCH = re.compile(
    r"\b(?:find|search for|search|grep(?: for)?|look for|occurrences? of|where is|contains?)\s+"
    r"(?:all\s+|any\s+|every\s+|the\s+)?(?:(?:word|text|string|occurrences? of)s?\s+)?([^\s,;?]+)",
    re.IGNORECASE,
)
_MASK = "\uffff"
_BORDER = re.compile(r"(?<=[\w`\"'*\uffff])(?:[?;!]|\.(?=\s)|,?\s+and\s+(?:then\s+)?(?=[a-z]))\s*")
_PATTERNS = ("pattern", "query", "text", "needle", "term", "regex", "search")
_CONTENTS = ("content", "text", "body", "message", "data")
_PATHS = ("path", "file", "filename", "file_path", "source", "directory", "folder")
_GLOBS = ("include", "glob", "globs", "files", "pattern")


@dataclass(frozen=True, slots=True)
class Choice:
    """A tool, its arguments, and the required ones that the request does not tell."""

    tool: str
    arguments: JsonObject
    missing: tuple[str, ...]
    score: float


def choose(request: str, tools: Mapping[str, ToolSpec]) -> Choice | None:
    """Return the tool that fits a request best, None where none does."""
    head = request[:LONGEST]
    wanted = stems(head)
    for pattern, words in _SAYINGS:
        if re.search(pattern, head, re.IGNORECASE):
            wanted += stems(words)
    rated = []
    frequency = _frequency(tools)
    for _, tool in sorted(tools.items()):
        score = _score(set(wanted), tool, frequency)
        if score >= _LEAST_SCORE:
            rated.append(_filled(request, tool, score))
    if not rated:
        return None
    best = max(choice.score for choice in rated)
    near = [choice for choice in rated if choice.score >= best * _CLOSE]
    return min(near, key=lambda choice: (len(choice.missing), -choice.score, choice.tool))


def _frequency(tools: Mapping[str, ToolSpec]) -> dict[str, int]:
    counted: dict[str, int] = {}
    for tool in tools.values():
        for word in set(stems(f"{tool.name} {tool.description}")):
            counted[word] = counted.get(word, 0) + 1
    return counted


def _score(wanted: set[str], tool: ToolSpec, frequency: Mapping[str, int]) -> float:
    """Rate a tool: words of its name count most, rare words more than those of every tool."""
    name, about = stems(tool.name), stems(tool.description)
    properties = tool.parameters.get("properties")
    named = stems(" ".join(properties)) if isinstance(properties, dict) else []
    many = max(len(frequency), 1)

    def weight(word: str) -> float:
        known = max((n for other, n in frequency.items() if alike(word, other)), default=1)
        return math.log1p(many / known)

    score = _NAME_WEIGHT * sum(map(weight, sorted(overlap(wanted, name))))
    score += sum(map(weight, sorted(overlap(wanted, about) - overlap(wanted, name))))
    return score + _SCHEMA_WEIGHT * len(overlap(wanted, named))


# --- Arguments ----------------------------------------------------------------------------------


def _filled(request: str, tool: ToolSpec, score: float) -> Choice:
    given = fill(request, tool)
    required = tool.parameters.get("required")
    names = (
        [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
    )
    missing = tuple(name for name in names if name not in given)
    return Choice(tool.name, given, missing, score)


def fill(request: str, tool: ToolSpec) -> JsonObject:
    """Return the arguments of a tool that a request tells, by their names and types."""
    properties = tool.parameters.get("properties")
    if not isinstance(properties, dict):
        return {}
    told = _Told(request)
    given: JsonObject = {}
    for name, schema in properties.items():
        value = _value(name, schema if isinstance(schema, dict) else {}, told, properties)
        if value is not None:
            given[name] = value
    return given


class _Told:
    """What a request names."""

    def __init__(self, request: str) -> None:
        self.whole = request
        request = request[:LONGEST]
        self.request = request
        self.quoted = quoted(request)
        self.globs = globs(request)
        self.paths = [path for path in paths(request) if path not in self.globs]
        self.folders = folders(request)
        self.numbers = numbers(request)

    @property
    def searched(self) -> str:
        """Return what is looked for: what is quoted, else what follows the word for searching."""
        plain = [one for one in self.quoted if one not in self.paths and one not in self.globs]
        if plain:
            return plain[0]
        found = _AFTER_SEARCH.search(self.request)
        return found[1].strip("`\"'.") if found else ""

    @property
    def content(self) -> str:
        """Return what is to be written: what is quoted, else what follows a colon."""
        plain = [one for one in self.quoted if one not in self.paths]
        after = self.whole.partition(":")[2].strip()
        return plain[0] if plain else after


def _value(name: str, schema: JsonObject, told: _Told, others: Mapping[str, object]) -> JsonValue:
    kind = schema.get("type")
    if kind == "boolean":
        return True if _is_wanted(name, told.request) else None
    if kind in ("integer", "number"):
        return _number(name, told)
    choices = schema.get("enum")
    if isinstance(choices, list):
        words = stems(told.request)
        return next((c for c in choices if isinstance(c, str) and overlap(stems(c), words)), None)
    if kind == "array":
        return list(told.globs) if name in _GLOBS and told.globs else None
    return _text(name, told, others)


def _text(name: str, told: _Told, others: Mapping[str, object]) -> JsonValue:
    if name in _PATHS:
        return next(iter(told.paths or told.folders), None)
    if name in ("destination", "target", "to"):
        return told.paths[1] if len(told.paths) > 1 else None
    if name in ("pattern", "glob") and told.globs and "include" not in others:
        return told.globs[0]
    if name in _PATTERNS and "path" in others:
        return told.searched or None
    if name in _CONTENTS:
        return told.content or None
    return (told.searched or None) if name in _PATTERNS else None


def _is_wanted(name: str, request: str) -> bool:
    words = stems(name)
    return len(overlap(words, stems(request))) == len(set(words))


def _number(name: str, told: _Told) -> JsonValue:
    """Return a number that stands beside a word of the argument's name, or the only limit."""
    request = told.request.lower()
    if name.startswith(("start_", "first_")):
        word = re.escape(name.partition("_")[2])
        found = re.search(rf"\b{word}\s+(\d+)", request)
        return int(found[1]) if found else None
    for word in map(re.escape, stems(name)):
        found = re.search(rf"(\d+)\s+{word}|\b{word}\w*\s+of\s+(\d+)", request)
        if found:
            return int(found[1] or found[2])
    top = re.search(r"\b(?:top|first|at most|most)\s+(\d+)\b", request)
    return int(top[1]) if top and name == "limit" else None


def clauses(request: str) -> Sequence[str]:
    """Return the parts of a request that may each want a tool; what is quoted stays whole."""
    if len(request) > LONGEST:
        return [request]
    masked = QUOTED.sub(_MASK, request.replace(_MASK, " "))
    kept = QUOTED.finditer(request.replace(_MASK, " "))
    parts = [re.sub(_MASK, lambda _: next(kept)[0], part).strip() for part in _BORDER.split(masked)]
    return [part for part in parts if len(part.split()) > 1] or [request]
