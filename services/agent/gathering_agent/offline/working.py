"""Work on a task: gather what its criteria ask for, write the report, remember, hand in.

The plan follows from what was done so far, so it goes on where a turn was taken over. When the
bound on tool calls does not suffice, the report says what was not covered; a later round begins
with that, and keeps the sections of the earlier version that it has no calls left for.
"""

from __future__ import annotations

from gathering_agent.models import JsonObject
from gathering_agent.offline import report
from gathering_agent.offline.assignment import Assignment
from gathering_agent.offline.demands import Demand
from gathering_agent.offline.evidence import found
from gathering_agent.offline.models_outcomes import Thought
from gathering_agent.offline.plan import (
    INFO,
    LINES_OF,
    READ,
    REMEMBER,
    WRITE,
    Outcome,
    Plan,
    arguments_for,
    calls_on,
    done_here,
    earlier_version,
    kept_on,
    outcome,
)
from gathering_agent.offline.report import Draft
from gathering_agent.offline.results import fitted
from gathering_agent.offline.story import SUBMIT, Story, rows, text
from gathering_agent.offline.topics import OVERVIEW, SIZE, Topic, tool_for, topics_of

_OFFLINE = "(Offline model, rule-based.)"
_READ_LINES = 5000
_LONGEST_LESSON = 4000  # characters


def work(task: Assignment, story: Story) -> Thought:
    """Return the next step."""
    plan = Plan.of(task, story)
    if story.closing or story.tried(WRITE):
        return _submit(plan)
    calls = _pending(plan)
    if calls:
        names = ", ".join(dict.fromkeys(tool for tool, _ in calls))
        return Thought(f"{_OFFLINE} Gathering with {names}.", tuple(calls))
    return _write(plan) if plan.writes else _submit(plan)


# --- Gathering ----------------------------------------------------------------------------------


def _pending(plan: Plan) -> list[tuple[str, JsonObject]]:
    """Return the calls to make now, the most wanted first, as many as there is room for."""
    story = plan.story
    wanted: list[tuple[str, JsonObject]] = []
    if plan.task.round > 1 and not earlier_version(plan) and not story.tried(READ):
        wanted.append((READ, {"path": plan.task.output, "line_count": _READ_LINES}))
    for topic in _by_need(plan):
        tool = tool_for(topic, story)
        call = (tool, arguments_for(topic, tool))
        if tool in story.tools and not story.tried(*call) and call not in wanted:
            wanted.append(call)
    wanted += _without_python(plan)
    return [call for call in wanted if call[0] in story.tools][: max(0, plan.spare)]


def _by_need(plan: Plan) -> list[Topic]:
    """Return the topics, those first that a reviewer, an earlier report or a memory misses."""
    missing = _missing(plan)
    return sorted(plan.topics, key=lambda topic: topic.key not in missing)


def _missing(plan: Plan) -> set[str]:
    task = plan.task
    if task.round <= 1:
        return set()
    sections = earlier_version(plan)
    there = {topic.key for topic in plan.topics if kept_on(topic, sections)}
    blamed = {topic.key for topic in topics_of(_unmet(task.earlier_review))}
    recalled = {
        topic.key
        for memory in plan.story.memories
        if task.output in memory
        for topic in topics_of(memory.partition("Not covered")[2])
    }
    return {topic.key for topic in plan.topics if topic.key not in there} | blamed | recalled


def _unmet(review: str) -> str:
    """Return what a review says is not met; all of it where it does not say so line by line."""
    lines = [line for line in review.splitlines() if line.startswith("Not met:")]
    return "\n".join(lines) or review


def _without_python(plan: Plan) -> list[tuple[str, JsonObject]]:
    """Where sizes are asked for and there is no Python: the largest files, and their lines."""
    story = plan.story
    size = story.last(SIZE.tool)
    if SIZE not in plan.topics or size is None or not found(SIZE, size).without_python:
        return []
    overview = story.last(OVERVIEW.tool)
    if overview is None:
        return [] if story.tried(OVERVIEW.tool) else [(OVERVIEW.tool, {})]
    largest = [text(one, "path") for one in rows(overview.data, "largest_files")]
    calls: list[tuple[str, JsonObject]] = [(INFO, {"path": path}) for path in largest[:LINES_OF]]
    return [call for call in calls if not story.tried(*call)]


# --- The end ------------------------------------------------------------------------------------


def _write(plan: Plan) -> Thought:
    told = outcome(plan)
    draft = Draft(
        title=plan.task.title or "Report",
        found=told.found,
        kept=told.kept,
        runs=done_here(plan),
        earlier_runs=calls_on(plan, {one.title for one in told.kept}),
        gaps=told.gaps,
        known=[memory for memory in plan.story.memories if plan.task.output in memory],
        answered=[(demand.text, _answered(demand, told)) for demand in plan.demands],
    )
    calls: list[tuple[str, JsonObject]] = [
        (WRITE, {"path": plan.task.output, "content": report.write(draft)})
    ]
    if plan.remembers and plan.story.left > len(calls):
        calls.append((REMEMBER, _lesson(plan, told)))
    return Thought(f"{_OFFLINE} Writing {plan.task.output}.", tuple(calls))


def _answered(demand: Demand, told: Outcome) -> str:
    titles = [one.topic.title for one in told.found] + [one.title for one in told.kept]
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


def _lesson(plan: Plan, told: Outcome) -> JsonObject:
    task = plan.task
    said = " ".join(f"{one.topic.title}: {one.headline}" for one in told.found)
    place = f" in workspace {task.workspace}" if task.workspace else ""
    lesson = f"{task.output}{place} (task: {task.title}). {said}"
    if told.gaps:
        lesson += f" Not covered so far: {' '.join(told.gaps)}"
    scope: JsonObject = {"scope": "private"}
    if task.circle:
        scope = {"scope": "circle", "scope_id": task.circle}
    return {"text": lesson[:_LONGEST_LESSON], "type": "learning", "importance": 0.6, **scope}


def _submit(plan: Plan) -> Thought:
    told = outcome(plan)
    written = plan.story.last(WRITE)
    parts = [f"{one.topic.title}: {one.headline}" for one in told.found if not one.without_python]
    parts += [f"{one.title}: kept from the earlier version." for one in told.kept]
    parts += [f"Not covered: {gap}" for gap in told.gaps]
    if written is None:
        tried = [done for done in plan.story.done if done.tool == WRITE]
        why = tried[-1].text[:300] if tried else "it was not possible within this turn"
        parts.append(f"{plan.task.output} was not written: {why}")
    summary = " ".join([*parts, "Done by the offline model, which is rule-based."])
    result: JsonObject = {"summary": summary, "artifacts": []}
    if written is not None:
        result["artifacts"] = [text(written.data, "path") or plan.task.output]
    fitting = fitted(plan.story.schema, result, summary)
    return Thought(f"{_OFFLINE} Handing in. {summary}", ((SUBMIT, fitting),))
