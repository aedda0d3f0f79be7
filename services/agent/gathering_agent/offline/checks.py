"""Check what a report says against what a tool says: entry by entry, claim by claim."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gathering_agent.offline.demands import Demand
from gathering_agent.offline.evidence import Entry, Found
from gathering_agent.offline.report import Section, sections_on
from gathering_agent.offline.topics import COMPLEXITY, IMPORTS, LINT, SIZE, Topic
from gathering_agent.offline.words import plural

_NONE = re.compile(r"\b(?:no|none|not any|without|does not|do not|0|there are no)\b", re.IGNORECASE)
_NO_PYTHON = re.compile(r"\b(?:no|without|not any|0)\b[^.\n]*\bpython\b", re.IGNORECASE)
_RULE = re.compile(r"\b[A-Z]{1,5}\d{3,4}\b")
_FIGURE = re.compile(r"\d+")
_CIRCLE = re.compile(r"->|→|\bcycl|\bcirc|each other|mutual", re.IGNORECASE)
_PYTHON = (".py", ".pyi")
_SHOWN = 3  # examples in an evidence


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether something is so, and what shows it."""

    met: bool
    evidence: str


def check_topic(
    topic: Topic,
    demand: Demand,
    sections: Sequence[Section],
    own: Found | None,
    closed: frozenset[str] = frozenset(),
) -> Verdict:
    """Check what a report says on a topic; `own` is the reviewer's own run, if there was one.

    `closed` are the files of which the own run shows all that there is.
    """
    about = sections_on(topic, sections)
    told = "\n".join(f"{one.title}\n{one.text}" for one in about)
    entries = [entry for one in about for entry in one.rows]
    if own is not None and own.without_python and not own.entries:
        return _nothing_to_examine(own, sections)
    if not about:
        return Verdict(False, _absent(topic, own))
    silent = not entries and not _FIGURE.search(told) and not _NONE.search(told)
    if silent and (topic is not IMPORTS or own is None):
        return Verdict(False, f"The section on {topic.title.lower()} holds no entry and no figure.")
    form = _form(topic, demand, entries)
    if form:
        return Verdict(False, form)
    if own is None:
        held = plural(len(entries), "entry")
        return Verdict(True, f"{held} on {topic.title.lower()}; not run again within my bound.")
    return _compare(topic, entries, told, own, closed)


def _absent(topic: Topic, own: Found | None) -> str:
    said = f"The report says nothing on {topic.title.lower()}."
    if own is None:
        return said
    example = f" For example {own.entries[0].where}: {own.entries[0].what}." if own.entries else ""
    return f"{said} {own.done.tool} finds: {own.headline}{example}"


def _nothing_to_examine(own: Found, sections: Sequence[Section]) -> Verdict:
    """There is no Python: then the report has to say so, and must not name findings."""
    named = [entry for one in sections for entry in one.rows if entry.path.endswith(_PYTHON)]
    if named:
        return Verdict(
            False, f"The report names {named[0].where}, but {own.done.tool} says: {own.headline}"
        )
    if any(_NO_PYTHON.search(f"{one.title} {one.text}") for one in sections):
        return Verdict(
            True,
            f"Cannot be done here, and the report says so; {own.done.tool} confirms: "
            f"{own.headline}",
        )
    return Verdict(
        False,
        f"{own.done.tool} finds nothing to examine ({own.headline}); the report does not say so.",
    )


def _form(topic: Topic, demand: Demand, entries: Sequence[Entry]) -> str:
    """Return what the entries lack of what the criterion wants each of them to name."""
    for entry in entries:
        lacks = [part for part in sorted(demand.parts) if not _has(topic, part, entry)]
        if lacks:
            return f"The entry {entry.where} does not name: {', '.join(lacks)}."
    if demand.least and len(entries) < demand.least:
        return f"{plural(len(entries), 'entry')}; at least {demand.least} are asked for."
    return ""


def _has(topic: Topic, part: str, entry: Entry) -> bool:
    if part == "line":
        return bool(entry.line) or topic in (IMPORTS, SIZE)  # of whole files
    if part == "rule":
        return bool(_RULE.search(entry.rule) or _RULE.search(entry.what)) or topic is not LINT
    if part == "why":
        return bool(entry.why.strip())
    return bool(entry.path)


def _compare(
    topic: Topic, entries: Sequence[Entry], told: str, own: Found, closed: frozenset[str]
) -> Verdict:
    """Compare entries with those of the own run."""
    if topic is IMPORTS or not own.entries:
        return _compare_totals(topic, entries, told, own)
    known = {_key(topic, entry) for entry in own.entries}
    placed = [entry for entry in entries if entry.line or topic is SIZE]
    right = [entry for entry in placed if _key(topic, entry) in known]
    unseen = [entry for entry in placed if _key(topic, entry) not in known]
    complete = own.total <= len(own.entries)
    wrong = [entry for entry in unseen if complete or entry.path in closed]
    if wrong:
        return Verdict(
            False, f"{_listed(wrong)}: {own.done.tool} does not find this. {own.headline}"
        )
    if not right:
        example = own.entries[0]
        return Verdict(
            False,
            f"None of {plural(len(placed), 'entry')} is among what {own.done.tool} finds, such as "
            f"{example.where}: {example.rule}.",
        )
    if topic in (COMPLEXITY, SIZE) and (top := _top_is_missing(topic, own, right)):
        return Verdict(False, top)
    rest = f"; {len(unseen)} are beyond what my run shows" if unseen else ""
    return Verdict(
        True,
        f"{own.done.tool} confirms {len(right)} of {plural(len(placed), 'entry')}{rest}, such as "
        f"{_listed(right[:_SHOWN])}. {own.headline}",
    )


def _compare_totals(topic: Topic, entries: Sequence[Entry], told: str, own: Found) -> Verdict:
    """Compare what is said in general: how many there are, or that there are none."""
    if own.total == 0:
        if entries and any(entry.line or topic is IMPORTS for entry in entries):
            return Verdict(False, f"{_listed(entries)} is named, but: {own.headline}")
        if topic is IMPORTS and not _NONE.search(told):
            return Verdict(False, f"It is not said that there are none. {own.headline}")
        return Verdict(True, f"{own.done.tool} confirms: {own.headline}")
    if topic is IMPORTS:
        missing = [one for one in own.entries if not _mentioned(one, told)]
        if missing:
            return Verdict(False, f"Not named: {missing[0].what}. {own.headline}")
    return Verdict(True, f"{own.done.tool} confirms: {own.headline}")


def _mentioned(entry: Entry, told: str) -> bool:
    """Tell whether a line names all modules of a cycle, as a cycle."""
    modules = entry.what.split(" -> ")
    return any(
        all(module in line for module in modules)
        for line in told.splitlines()
        if _CIRCLE.search(line)
    )


def _top_is_missing(topic: Topic, own: Found, right: Sequence[Entry]) -> str:
    top = own.entries[0]
    if any(_key(topic, entry) == _key(topic, top) for entry in right):
        return ""
    return f"The first of all is not named: {top.where}, {top.rule} ({own.done.tool})."


def _key(topic: Topic, entry: Entry) -> tuple[str, int, str]:
    """Return what has to agree: the place, and the rule or figure."""
    said = f"{entry.rule} {entry.what}"
    if topic is LINT:
        rule = _RULE.search(said)
        return entry.path, entry.line, rule[0] if rule else ""
    if topic in (COMPLEXITY, SIZE):
        figure = _FIGURE.search(entry.rule) or _FIGURE.search(entry.what)
        return entry.path, entry.line, figure[0] if figure else ""
    return entry.path, entry.line, ""


def _listed(entries: Sequence[Entry]) -> str:
    return ", ".join(f"{entry.where} ({entry.rule})" for entry in entries[:_SHOWN])
