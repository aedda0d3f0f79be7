"""Topics of an examination: the words that ask for one, and the tool that answers it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gathering_agent.models import JsonObject
from gathering_agent.offline.story import Story
from gathering_agent.offline.words import overlap, quoted, stems

_MARKERS = re.compile(r"\b(TODO|FIXME|XXX|HACK|BUG)s?\b")
_MOST = 20  # entries per topic
_LINT_FINDINGS = 40


@dataclass(frozen=True)
class Topic:
    """`tool` is the one that is made for it; any other is found by the words of `about`."""

    key: str
    title: str
    asked: re.Pattern[str]
    tool: str
    arguments: JsonObject
    about: str


def _asked(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


LINT = Topic(
    "lint", "Lint findings",
    _asked(r"\blint|\bruff\b|finding|\bbugs?\b|defect|\bsmell|securit|vulnerab|quality|\bstyle\b"
           r"|unused|violation"),
    "analysis_lint",
    # RUF100 calls a `noqa` unused when it is for a rule that this run does not select.
    {"limit": _LINT_FINDINGS, "ignore": ["S101", "RUF100"]},
    "lint findings rules",
)  # fmt: skip
COMPLEXITY = Topic(
    "complexity", "Complexity", _asked(r"complex|cyclomatic|mccabe|\bc901\b"),
    "analysis_complexity", {"threshold": 1, "limit": _MOST}, "complexity of functions",
)  # fmt: skip
SIZE = Topic(
    "size", "Size",
    _asked(r"\bsizes?\b|largest|longest|biggest|lines of code|\bloc\b|\blong (?:functions|files)"),
    "analysis_size", {"limit": _MOST}, "size lines longest files functions",
)  # fmt: skip
IMPORTS = Topic(
    "imports", "Imports", _asked(r"\bimport|dependenc|\bcycl(?:e|es|ic|ical)\b|circular|coupling"),
    "analysis_imports", {}, "imports cycles modules",
)  # fmt: skip
TREE = Topic(
    "tree", "Tree",
    _asked(r"\bstructure\b|\btree\b|\blayout\b|\binventory\b|\bdirector(?:y|ies) listing"),
    "fs_tree", {}, "tree of the directory",
)  # fmt: skip
OVERVIEW = Topic(
    "overview", "Overview", _asked(r"\boverview\b|\bpackages\b|file types|languages|\binventory\b"),
    "analysis_summary", {}, "summary of the directory: files, types, packages",
)  # fmt: skip
TOPICS = (LINT, COMPLEXITY, SIZE, IMPORTS, TREE, OVERVIEW)
_REVIEW = _asked(
    r"\b(?:review|examine|analy[sz]e|inspect|audit|assess)\b.*\b(?:code|source|repo|project|python)"
)
CODE_REVIEW = (LINT, COMPLEXITY, SIZE, IMPORTS)


def search_topics(text: str) -> list[Topic]:
    """Return a topic for each marker, or quoted text, that a text wants to be searched for."""
    wanted = [match for match in _MARKERS.findall(text) if match != "BUG"]
    if re.search(r"\b(?:search|find|grep|occurrence|contain)", text, re.IGNORECASE):
        wanted += [one for one in quoted(text) if "." not in one]
    return [search_topic(pattern) for pattern in dict.fromkeys(wanted)]


def search_topic(pattern: str) -> Topic:
    return Topic(
        key=f"search:{pattern}",
        title=f"Occurrences of {pattern}",
        asked=_asked(re.escape(pattern)),
        tool="search_text",
        arguments={"pattern": pattern, "literal": True, "limit": 50},
        about="search text",
    )


def topics_of(text: str) -> list[Topic]:
    """Return the topics that a text asks for, in the order of their first word."""
    found = [(match.start(), topic) for topic in TOPICS if (match := topic.asked.search(text))]
    found += [(len(text), topic) for topic in search_topics(text)]
    return [topic for _, topic in sorted(found, key=lambda one: (one[0], one[1].key))]


def topics_of_task(title: str, description: str, criteria: Sequence[str]) -> list[Topic]:
    """Return the topics of a task: those of its criteria first, then of what is said around them.

    A review of code that names no topic is about all that makes a review.
    """
    found = [topic for text in (*criteria, title, description) for topic in topics_of(text)]
    if not found and _REVIEW.search(f"{title}\n{description}"):
        found = list(CODE_REVIEW)
    return list({topic.key: topic for topic in found}.values())


def tool_for(topic: Topic, story: Story) -> str:
    """Return the tool for a topic: its own, else the one whose words fit best, or none.

    Tools that were used count as well: in its last step a turn is not offered them any more.
    """
    names = sorted({*story.tools, *(done.tool for done in story.done)})
    if topic.tool in names:
        return topic.tool
    wanted = stems(topic.about)
    rated = ((len(overlap(wanted, _words(name, story))), name) for name in names)
    best = max(rated, default=(0, ""), key=lambda one: one[0])
    return best[1] if best[0] * 2 > len(set(wanted)) else ""


def _words(name: str, story: Story) -> Iterable[str]:
    spec = story.tools.get(name)
    return stems(f"{name} {spec.description if spec else ''}")
