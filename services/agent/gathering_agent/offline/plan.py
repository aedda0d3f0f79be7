"""A task and where the work on it stands: what is wanted, what there is, what is missing."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gathering_agent.models import JsonObject
from gathering_agent.offline import report
from gathering_agent.offline.assignment import Assignment
from gathering_agent.offline.demands import Demand, demands_of
from gathering_agent.offline.evidence import Entry, Found, found
from gathering_agent.offline.report import Section
from gathering_agent.offline.story import Done, Story, rows, text
from gathering_agent.offline.topics import OVERVIEW, SIZE, Topic, tool_for, topics_of_task

WRITE = "fs_write"
READ = "fs_read"
INFO = "fs_info"
REMEMBER = "memory_remember"
LINES_OF = 5  # files whose lines are counted where there is no Python
_ENOUGH_TO_REMEMBER = 3  # calls; with fewer, all go into the work


@dataclass(frozen=True, slots=True)
class Plan:
    """The task and where its work stands."""

    task: Assignment
    story: Story
    topics: tuple[Topic, ...]
    demands: tuple[Demand, ...]

    @classmethod
    def of(cls, task: Assignment, story: Story) -> Plan:
        """Return what is to be done for a task."""
        topics = topics_of_task(task.title, task.description, task.criteria)
        return cls(task, story, tuple(topics), tuple(demands_of(task.criteria)))

    @property
    def writes(self) -> bool:
        """Tell whether there is a tool to write the report with."""
        return WRITE in self.story.tools

    @property
    def remembers(self) -> bool:
        """Tell whether a call is kept for remembering what was learned."""
        made = len(self.story.done) + self.story.left
        return REMEMBER in self.story.tools and made >= _ENOUGH_TO_REMEMBER

    @property
    def spare(self) -> int:
        """Return how many calls may go into gathering: those for the end are kept back."""
        return self.story.left - self.writes - self.remembers


@dataclass(frozen=True, slots=True)
class Outcome:
    """What there is to tell: results, sections of an earlier version, and what is missing."""

    found: list[Found]
    kept: list[Section]
    gaps: list[str]


def outcome(plan: Plan) -> Outcome:
    """Return what there is to tell now."""
    results = _found(plan)
    have = {one.topic.key for one in results}
    sections = earlier_version(plan) if plan.task.round > 1 else []
    kept = [
        one for topic in plan.topics if topic.key not in have for one in kept_on(topic, sections)
    ]
    return Outcome(results, kept, _gaps(plan, results, kept))


def arguments_for(topic: Topic, tool: str) -> JsonObject:
    """Return the arguments of a call on a topic."""
    return dict(topic.arguments) if tool == topic.tool else {}


def earlier_version(plan: Plan) -> list[Section]:
    """Return the sections of the report as it is: read now, or as this agent wrote it last."""
    current = [done for done in plan.story.done if done.tool == READ and done.ok]
    if current:
        return report.read(text(current[-1].data, "content"))
    for done in reversed(plan.story.before):
        if done.tool == WRITE and done.ok and done.arguments.get("path") == plan.task.output:
            return report.read(str(done.arguments.get("content", "")))
    return []


def kept_on(topic: Topic, sections: list[Section]) -> list[Section]:
    """Return the sections of an earlier version that are about a topic."""
    return [one for one in sections if one.title == topic.title and one.text]


def _found(plan: Plan) -> list[Found]:
    results = []
    for topic in plan.topics:
        tool = tool_for(topic, plan.story)
        wanted = arguments_for(topic, tool)
        done = next(
            (d for d in plan.story.done if d.ok and d.tool == tool and d.arguments == wanted), None
        )
        if done is not None:
            results.append(_with_lines(plan, found(topic, done)))
    return results


def _with_lines(plan: Plan, one: Found) -> Found:
    """Add the largest files of any kind to a topic of sizes without Python."""
    overview = plan.story.last(OVERVIEW.tool)
    if one.topic is not SIZE or not one.without_python or overview is None:
        return one
    infos = {
        str(done.arguments.get("path")): done.data
        for done in plan.story.done
        if done.tool == INFO and done.ok
    }
    entries = tuple(
        Entry(path, 0, _lines(infos.get(path, {})), f"file of {row.get('size_bytes')} bytes", "")
        for row in rows(overview.data, "largest_files")[:LINES_OF]
        if (path := text(row, "path"))
    )
    headline = f"{one.headline} The largest files of any kind:"
    return replace(one, headline=headline, entries=entries, total=len(entries))


def _lines(info: JsonObject) -> str:
    lines = info.get("line_count")
    return f"{lines} lines" if isinstance(lines, int) and lines else "lines not counted"


# --- What is missing ----------------------------------------------------------------------------


def _gaps(plan: Plan, results: list[Found], kept: list[Section]) -> list[str]:
    """Return what is missing, each with the reason."""
    have = {one.topic.key for one in results} | {
        topic.key for topic in plan.topics for one in kept if one.title == topic.title
    }
    gaps = [
        f"{topic.title}: {_reason(plan, topic, results)}"
        for topic in plan.topics
        if topic.key not in have
    ]
    gaps += [
        f"{one.topic.title}: could not be examined. {one.headline}"
        for one in results
        if one.without_python and not one.entries
    ]
    return gaps + [
        f"Criterion {demand.number} ({demand.text}): no rule of the offline model fits it."
        for demand in plan.demands
        if demand.plain
    ]


def _reason(plan: Plan, topic: Topic, results: list[Found]) -> str:
    tool = tool_for(topic, plan.story)
    failed = [d for d in plan.story.done if d.tool == tool and not d.ok]
    if failed:
        return f"{tool} failed: {failed[-1].text[:200]}."
    no_python = next((one.headline for one in results if one.without_python), "")
    if no_python and topic.tool.startswith("analysis_"):
        return f"could not be examined. {no_python}"
    if not tool and not plan.story.closing:
        return "no tool that is granted fits."
    return "the bound on tool calls of this round was reached."


def calls_on(plan: Plan, titles: set[str]) -> list[str]:
    """Return the rows of the earlier version that tell of the runs behind these sections."""
    tools = [topic.tool for topic in plan.topics if topic.title in titles]
    return report.runs_of(earlier_version(plan), tools) if tools else []


def done_here(plan: Plan) -> list[Done]:
    """Return the runs of this turn that a report tells of."""
    return [done for done in plan.story.done if done.tool not in (READ, REMEMBER)]
