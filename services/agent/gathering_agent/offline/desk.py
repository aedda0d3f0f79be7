"""The work to review: what is read and run, and what it shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from gathering_agent.models import JsonObject
from gathering_agent.offline import report
from gathering_agent.offline.assignment import Assignment
from gathering_agent.offline.demands import Demand
from gathering_agent.offline.evidence import Entry, Found, found
from gathering_agent.offline.plan import INFO, READ
from gathering_agent.offline.report import Section
from gathering_agent.offline.story import Done, Story, count, text
from gathering_agent.offline.topics import COMPLEXITY, LINT, SIZE, Topic, tool_for

FILES = 3  # that are read at most
_LINES = 5000
_CLOSER = 2  # files per topic that are looked at alone
_PLACED = (LINT, COMPLEXITY, SIZE)  # whose entries name lines


@dataclass(frozen=True, slots=True)
class Desk:
    """The work to review and what is known of it."""

    task: Assignment
    story: Story
    demands: tuple[Demand, ...]

    @property
    def topics(self) -> list[Topic]:
        return list({t.key: t for demand in self.demands for t in demand.topics}.values())


def pending(desk: Desk) -> Iterator[tuple[str, JsonObject]]:
    """Yield the calls to make now."""
    story = desk.story
    for call in _reads(desk):
        if READ in story.tools and not story.tried(*call):
            yield call
    for topic in desk.topics:
        tool = tool_for(topic, story)
        arguments = _arguments(topic, tool)
        if tool and not story.tried(tool, arguments):
            yield tool, arguments
    yield from _closer(desk)
    yield from _lengths(desk)


def _lengths(desk: Desk) -> Iterator[tuple[str, JsonObject]]:
    """Yield looks at files whose lines are told although no tool for Python measures them."""
    own = own_run(desk, SIZE)
    if SIZE not in desk.topics or own is None or not own.without_python:
        return
    for entry in sized(desk)[:FILES]:
        if INFO in desk.story.tools and not desk.story.tried(INFO, {"path": entry.path}):
            yield INFO, {"path": entry.path}


def sized(desk: Desk) -> list[Entry]:
    """Return the entries of the report that tell the lines of a file."""
    named = [e for one in report.sections_on(SIZE, sections_of(desk)) for e in one.rows]
    return [entry for entry in named if re.fullmatch(r"\d+ lines", entry.rule)]


def _reads(desk: Desk) -> Iterator[tuple[str, JsonObject]]:
    """Yield the reads of what was handed in, further parts of long files as well."""
    for artifact in desk.task.artifacts[:FILES]:
        yield READ, {"path": artifact.path, "line_count": _LINES}
        for done in parts_of(desk, artifact.path):
            following = count(done.data, "next_line")
            if following:
                yield READ, {
                    "path": artifact.path, "start_line": following, "line_count": _LINES,
                }  # fmt: skip


def parts_of(desk: Desk, path: str) -> list[Done]:
    """Return what was read of a file."""
    return [
        done
        for done in desk.story.done
        if done.tool == READ and done.ok and done.arguments.get("path") == path
    ]


def _arguments(topic: Topic, tool: str) -> JsonObject:
    """Return the arguments of an own run: it looks further than the author's."""
    if tool != topic.tool:
        return {}
    wider = {"limit": 100} if "limit" in topic.arguments else {}
    return {**topic.arguments, **wider}


def _closer(desk: Desk) -> Iterator[tuple[str, JsonObject]]:
    """Yield runs on single files whose entries the runs on everything do not show."""
    for topic in desk.topics:
        own = own_run(desk, topic)
        if topic not in _PLACED or own is None or own.total <= len(own.entries):
            continue
        for path in _unseen_files(desk, topic, own)[:_CLOSER]:
            arguments: JsonObject = {**_arguments(topic, topic.tool), "path": path}
            if not desk.story.tried(topic.tool, arguments):
                yield topic.tool, arguments


def _unseen_files(desk: Desk, topic: Topic, own: Found) -> list[str]:
    seen = {(entry.path, entry.line) for entry in own.entries}
    named = [e for one in report.sections_on(topic, sections_of(desk)) for e in one.rows]
    places = [(entry.path, entry.line) for entry in named if entry.line]
    return list(dict.fromkeys(path for path, line in places if (path, line) not in seen))


def sections_of(desk: Desk) -> list[Section]:
    """Return the sections of all that was read."""
    content = "\n".join(
        text(done.data, "content")
        for artifact in desk.task.artifacts[:FILES]
        for done in parts_of(desk, artifact.path)
    )
    return report.read(content)


def _runs(desk: Desk, topic: Topic) -> list[Found]:
    """Return the own runs on a topic: on everything first, then on single files."""
    tool = tool_for(topic, desk.story)
    wanted = _arguments(topic, tool)
    runs = [
        done
        for done in desk.story.done
        if done.tool == tool
        and done.ok
        and {k: v for k, v in done.arguments.items() if k != "path"} == wanted
    ]
    runs.sort(key=lambda done: "path" in done.arguments)
    return [found(topic, done) for done in runs]


def own_run(desk: Desk, topic: Topic) -> Found | None:
    """Return what the own runs on a topic show, put together."""
    runs = _runs(desk, topic)
    if not runs:
        return None
    entries = dict.fromkeys(entry for one in runs for entry in one.entries)
    return replace(runs[0], entries=tuple(entries))


def closed_files(desk: Desk, topic: Topic) -> frozenset[str]:
    """Return the files of which an own run shows all that there is."""
    return frozenset(
        str(one.done.arguments["path"])
        for one in _runs(desk, topic)
        if "path" in one.done.arguments and one.total <= len(one.entries)
    )
