"""Work on a task: gather what its criteria ask for, write the report, remember, hand in.

The plan follows from what was done so far, so it goes on where a turn was taken over. When the
bound on tool calls does not suffice, the report says what was not covered; a later round begins
with that, and keeps the sections of the earlier version that it has no calls left for.
"""

from __future__ import annotations

from dataclasses import dataclass

from gathering_agent.models import JsonObject
from gathering_agent.models_offline import Thought
from gathering_agent.offline import report
from gathering_agent.offline.assignment import Assignment
from gathering_agent.offline.demands import Demand, demands_of
from gathering_agent.offline.evidence import Entry, Found, found
from gathering_agent.offline.report import Draft, Section
from gathering_agent.offline.results import fitted
from gathering_agent.offline.story import SUBMIT, Done, Story, rows, text
from gathering_agent.offline.topics import (
    OVERVIEW,
    SIZE,
    Topic,
    tool_for,
    topics_of,
    topics_of_task,
)

_WRITE = "fs_write"
_READ = "fs_read"
_INFO = "fs_info"
_REMEMBER = "memory_remember"
_LINES_OF = 5  # files whose lines are counted where there is no Python
_ENOUGH_TO_REMEMBER = 3  # calls; with fewer, all go into the work
_OFFLINE = "(Offline model, rule-based.)"


@dataclass(frozen=True, slots=True)
class _Plan:
    """The task and where its work stands."""

    task: Assignment
    story: Story
    topics: tuple[Topic, ...]
    demands: tuple[Demand, ...]

    @property
    def writes(self) -> bool:
        return _WRITE in self.story.tools

    @property
    def remembers(self) -> bool:
        made = len(self.story.done) + self.story.left
        return _REMEMBER in self.story.tools and made >= _ENOUGH_TO_REMEMBER

    @property
    def spare(self) -> int:
        """Return how many calls may go into gathering: those for the end are kept back."""
        return self.story.left - self.writes - self.remembers


def work(task: Assignment, story: Story) -> Thought:
    """Return the next step."""
    plan = _Plan(
        task,
        story,
        tuple(topics_of_task(task.title, task.description, task.criteria)),
        tuple(demands_of(task.criteria)),
    )
    if story.closing or story.tried(_WRITE) or (not plan.writes and not _pending(plan)):
        return _submit(plan)
    calls = _pending(plan)
    if calls:
        names = ", ".join(dict.fromkeys(tool for tool, _ in calls))
        return Thought(f"{_OFFLINE} Gathering with {names}.", tuple(calls))
    return _write(plan)


# --- Gathering ----------------------------------------------------------------------------------


def _pending(plan: _Plan) -> list[tuple[str, JsonObject]]:
    """Return the calls to make now, the most wanted first, as many as there is room for."""
    story = plan.story
    wanted: list[tuple[str, JsonObject]] = []
    if plan.task.round > 1 and not _earlier_version(plan) and not story.tried(_READ):
        wanted.append((_READ, {"path": plan.task.output, "line_count": 3000}))
    for topic in _by_need(plan):
        tool = tool_for(topic, story.tools)
        call = (tool, _arguments(topic, tool))
        if tool and not story.tried(*call) and call not in wanted:
            wanted.append(call)
    wanted += _without_python(plan)
    return wanted[: max(0, plan.spare)]


def _arguments(topic: Topic, tool: str) -> JsonObject:
    return dict(topic.arguments) if tool == topic.tool else {}


def _by_need(plan: _Plan) -> list[Topic]:
    """Return the topics, those first that a reviewer, an earlier report or a memory misses."""
    missing = _missing(plan)
    return sorted(plan.topics, key=lambda topic: topic.key not in missing)


def _missing(plan: _Plan) -> set[str]:
    task = plan.task
    if task.round <= 1:
        return set()
    sections = _earlier_version(plan)
    there = {topic.key for topic in plan.topics if _kept(topic, sections)}
    blamed = {topic.key for topic in topics_of(_unmet(task.earlier_review))}
    recalled = {
        topic.key
        for memory in plan.story.memories
        if plan.task.output in memory and "Not covered" in memory
        for topic in topics_of(memory.partition("Not covered")[2])
    }
    return {topic.key for topic in plan.topics if topic.key not in there} | blamed | recalled


def _unmet(review: str) -> str:
    """Return what a review says is not met; all of it where it does not say so line by line."""
    lines = [line for line in review.splitlines() if line.startswith("Not met:")]
    return "\n".join(lines) or review


def _without_python(plan: _Plan) -> list[tuple[str, JsonObject]]:
    """Where sizes are asked for and there is no Python: the largest files, and their lines."""
    story = plan.story
    size = story.last(SIZE.tool)
    if SIZE not in plan.topics or size is None or not found(SIZE, size).without_python:
        return []
    overview = story.last(OVERVIEW.tool)
    if overview is None:
        fits = OVERVIEW.tool in story.tools and not story.tried(OVERVIEW.tool)
        return [(OVERVIEW.tool, {})] if fits else []
    largest = [text(one, "path") for one in rows(overview.data, "largest_files")]
    calls: list[tuple[str, JsonObject]] = [(_INFO, {"path": path}) for path in largest[:_LINES_OF]]
    return [call for call in calls if _INFO in story.tools and not story.tried(*call)]


# --- What there is ------------------------------------------------------------------------------


def _earlier_version(plan: _Plan) -> list[Section]:
    """Return the sections of the report as it is: read now, or as this agent wrote it last."""
    current = [done for done in plan.story.done if done.tool == _READ and done.ok]
    if current:
        return report.read(text(current[-1].data, "content"))
    for done in reversed(plan.story.before):
        if done.tool == _WRITE and done.ok and done.arguments.get("path") == plan.task.output:
            return report.read(str(done.arguments.get("content", "")))
    return []


def _kept(topic: Topic, sections: list[Section]) -> list[Section]:
    return [one for one in sections if one.title == topic.title and one.text]


def _found(plan: _Plan) -> list[Found]:
    results = []
    for topic in plan.topics:
        tool = tool_for(topic, plan.story.tools)
        done = next((d for d in plan.story.done if _answers(d, tool, topic) and d.ok), None)
        if done is not None:
            results.append(found(topic, done))
    return [_with_lines(plan, one) for one in results]


def _answers(done: Done, tool: str, topic: Topic) -> bool:
    return done.tool == tool and done.arguments == _arguments(topic, tool)


def _with_lines(plan: _Plan, one: Found) -> Found:
    """Add the largest files of any kind to a topic of sizes without Python."""
    overview = plan.story.last(OVERVIEW.tool)
    if one.topic is not SIZE or not one.without_python or overview is None:
        return one
    infos = {
        str(done.arguments.get("path")): done.data
        for done in plan.story.done
        if done.tool == _INFO and done.ok
    }
    entries = tuple(
        Entry(path, 0, _lines(infos.get(path, {})), f"file of {row.get('size_bytes')} bytes", "")
        for row in rows(overview.data, "largest_files")[:_LINES_OF]
        if (path := text(row, "path"))
    )
    headline = f"{one.headline} The largest files of any kind:"
    return Found(one.topic, one.done, headline, entries, len(entries))


def _lines(info: JsonObject) -> str:
    count = info.get("line_count")
    return f"{count} lines" if isinstance(count, int) and count else "lines not counted"


def _gaps(plan: _Plan, results: list[Found], kept: list[Section]) -> list[str]:
    """Return what is missing, each with the reason."""
    have = {one.topic.key for one in results} | {
        topic.key for topic in plan.topics for one in kept if one.title == topic.title
    }
    gaps = []
    for topic in plan.topics:
        if topic.key in have:
            continue
        tool = tool_for(topic, plan.story.tools)
        failed = [d for d in plan.story.done if d.tool == tool and not d.ok]
        if not tool:
            why = "no tool that is granted fits"
        elif failed:
            why = f"{tool} failed: {failed[-1].text[:200]}"
        else:
            why = "the bound on tool calls of this round was reached"
        gaps.append(f"{topic.title} ({why}).")
    gaps += [
        f"{one.topic.title}: {one.headline} So this could not be examined."
        for one in results
        if one.without_python
    ]
    gaps += [
        f"Criterion {demand.number} ({demand.text}): no rule of the offline model fits it."
        for demand in plan.demands
        if demand.plain
    ]
    return gaps


# --- The end ------------------------------------------------------------------------------------


def _write(plan: _Plan) -> Thought:
    results, kept, gaps = _outcome(plan)
    draft = Draft(
        title=plan.task.title or "Report",
        found=results,
        kept=kept,
        runs=[done for done in plan.story.done if done.tool not in (_READ, _REMEMBER)],
        earlier_runs=_earlier_runs(plan, kept),
        gaps=gaps,
        known=[memory for memory in plan.story.memories if plan.task.output in memory],
        answered=[(demand.text, _answered(demand, results, kept)) for demand in plan.demands],
    )
    content = report.write(draft)
    calls: list[tuple[str, JsonObject]] = [(_WRITE, {"path": plan.task.output, "content": content})]
    if plan.remembers and plan.story.left > len(calls):
        calls.append((_REMEMBER, _lesson(plan, results, gaps)))
    return Thought(f"{_OFFLINE} Writing {plan.task.output}.", tuple(calls))


def _earlier_runs(plan: _Plan, kept: list[Section]) -> list[str]:
    titles = {one.title for one in kept}
    tools = [topic.tool for topic in plan.topics if topic.title in titles]
    return report.runs_of(_earlier_version(plan), tools) if tools else []


def _outcome(plan: _Plan) -> tuple[list[Found], list[Section], list[str]]:
    results = _found(plan)
    have = {one.topic.key for one in results}
    sections = _earlier_version(plan) if plan.task.round > 1 else []
    kept = [one for topic in plan.topics if topic.key not in have for one in _kept(topic, sections)]
    return results, kept, _gaps(plan, results, kept)


def _answered(demand: Demand, results: list[Found], kept: list[Section]) -> str:
    titles = [one.topic.title for one in results] + [one.title for one in kept]
    named = [topic.title for topic in demand.topics if topic.title in titles]
    missing = [topic.title for topic in demand.topics if topic.title not in titles]
    if demand.tools_run:
        named.append(report.RUN_TITLE)
    if demand.gaps:
        named.append(report.GAPS_TITLE)
    if demand.files:
        named.append("this file")
    where = f"in {', '.join(named)}" if named else "not answered"
    return f"{where}; missing: {', '.join(missing)}" if missing else where


def _lesson(plan: _Plan, results: list[Found], gaps: list[str]) -> JsonObject:
    task = plan.task
    said = " ".join(f"{one.topic.title}: {one.headline}" for one in results)
    place = f" in workspace {task.workspace}" if task.workspace else ""
    lesson = f"{task.output}{place} (task: {task.title}). {said}"
    if gaps:
        lesson += f" Not covered so far: {' '.join(gaps)}"
    scope: JsonObject = {"scope": "private"}
    if task.circle:
        scope = {"scope": "circle", "scope_id": task.circle}
    return {"text": lesson[:4000], "type": "learning", "importance": 0.6, **scope}


def _submit(plan: _Plan) -> Thought:
    results, kept, gaps = _outcome(plan)
    written = plan.story.last(_WRITE)
    parts = [f"{one.topic.title}: {one.headline}" for one in results]
    parts += [f"{one.title}: kept from the earlier version." for one in kept]
    parts += [f"Not covered: {gap}" for gap in gaps]
    if written is None:
        tried = [done for done in plan.story.done if done.tool == _WRITE]
        why = tried[-1].text[:300] if tried else "it was not possible within this turn"
        parts.append(f"{plan.task.output} was not written: {why}")
    summary = " ".join([*parts, "Done by the offline model, which is rule-based."])
    result: JsonObject = {"summary": summary, "artifacts": []}
    if written is not None:
        result["artifacts"] = [text(written.data, "path") or plan.task.output]
    fitting = fitted(plan.story.schema, result, summary)
    return Thought(f"{_OFFLINE} Handing in. {summary}", ((SUBMIT, fitting),))
