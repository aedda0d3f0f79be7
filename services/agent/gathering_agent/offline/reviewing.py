"""Review a task's work: read what was handed in, run tools of one's own, judge each criterion."""

from __future__ import annotations

from collections.abc import Sequence

from gathering_agent.models import JsonObject
from gathering_agent.offline.assignment import Assignment
from gathering_agent.offline.checks import Verdict, check_topic
from gathering_agent.offline.demands import Demand, demands_of
from gathering_agent.offline.desk import (
    FILES,
    Desk,
    closed_files,
    own_run,
    parts_of,
    pending,
    sections_of,
    sized,
)
from gathering_agent.offline.models_outcomes import Thought
from gathering_agent.offline.plan import INFO
from gathering_agent.offline.report import GAPS_TITLE, RUN_TITLE, Section
from gathering_agent.offline.results import fitted
from gathering_agent.offline.story import SUBMIT, Story, count, text
from gathering_agent.offline.topics import SIZE
from gathering_agent.offline.words import overlap, stems

_OFFLINE = "(Offline model, rule-based.)"


def review(task: Assignment, story: Story) -> Thought:
    """Return the next step."""
    desk = Desk(task, story, tuple(demands_of(task.criteria)))
    calls = [] if story.closing else list(pending(desk))[: story.left]
    if calls:
        names = ", ".join(dict.fromkeys(tool for tool, _ in calls))
        return Thought(f"{_OFFLINE} Checking with {names}.", tuple(calls))
    return _judge(desk)


# --- Judging ------------------------------------------------------------------------------------


def _judge(desk: Desk) -> Thought:
    sections = sections_of(desk)
    verdicts = [_criterion(desk, demand, sections) for demand in desk.demands]
    if not desk.demands:
        verdicts = [_general(desk, sections)]
    changed = _changed(desk)
    unmet = [
        f"{demand.text} {verdict.evidence}"
        for demand, verdict in zip(desk.demands, verdicts, strict=False)
        if not verdict.met
    ]
    approved = all(verdict.met for verdict in verdicts) and not changed
    comment = " ".join(
        [
            "All criteria are met." if approved else "Changes are needed.",
            *changed,
            *unmet,
            *([] if desk.demands else [verdicts[0].evidence]),
            "Checked by the offline model, which is rule-based.",
        ]
    )
    result: JsonObject = {
        "verdict": "approved" if approved else "changes_requested",
        "comment": comment,
        "criteria": [
            {"criterion": demand.text, "met": verdict.met, "evidence": verdict.evidence}
            for demand, verdict in zip(desk.demands, verdicts, strict=False)
        ],
    }
    said = f"{_OFFLINE} {'Approved' if approved else 'Changes requested'}. {comment}"
    return Thought(said, ((SUBMIT, fitted(desk.story.schema, result, comment)),))


def _general(desk: Desk, sections: Sequence[Section]) -> Verdict:
    if not desk.task.artifacts:
        return Verdict(bool(desk.task.summary), f"No file; summary: {desk.task.summary or 'none'}")
    return Verdict(bool(sections), "The files can be read." if sections else "Nothing can be read.")


def _changed(desk: Desk) -> list[str]:
    """Return which files are not what was handed in."""
    changed = []
    for artifact in desk.task.artifacts[:FILES]:
        for done in parts_of(desk, artifact.path)[:1]:
            now = text(done.data, "sha256")
            if artifact.sha256 and now and now != artifact.sha256:
                changed.append(f"{artifact.path} was changed after it was handed in.")
    return changed


def _criterion(desk: Desk, demand: Demand, sections: Sequence[Section]) -> Verdict:
    """Judge one criterion: each thing that it asks for has to be so."""
    parts = [_file(desk, path) for path in demand.files]
    if demand.tools_run:
        parts.append(_tools_named(desk, sections))
    parts += [
        (_lengths_told(desk) if topic is SIZE else None)
        or check_topic(topic, demand, sections, own_run(desk, topic), closed_files(desk, topic))
        for topic in demand.topics
    ]
    if demand.gaps and not demand.topics:
        parts.append(_gaps_told(sections))
    if not parts:
        parts.append(_by_words(demand, sections))
    evidence = " ".join(part.evidence for part in parts)
    return Verdict(all(part.met for part in parts), evidence)


def _file(desk: Desk, path: str) -> Verdict:
    parts = parts_of(desk, path)
    if parts:
        first = parts[0].data
        size = f"{count(first, 'line_count')} lines, sha256 {text(first, 'sha256')[:12]}"
        return Verdict(True, f"{path} can be read ({size}).")
    handed_in = [artifact.path for artifact in desk.task.artifacts]
    if path in handed_in:
        failed = [d.text[:200] for d in desk.story.done if d.arguments.get("path") == path]
        return Verdict(False, f"{path} cannot be read: {failed[-1] if failed else 'not tried'}.")
    return Verdict(False, f"{path} was not handed in; handed in: {', '.join(handed_in) or 'none'}.")


def _tools_named(desk: Desk, sections: Sequence[Section]) -> Verdict:
    """Check that the report names tools that it was made with, and that these exist."""
    told = "\n".join(one.text for one in sections if one.title == RUN_TITLE) or "\n".join(
        one.text for one in sections
    )
    known = {*desk.story.tools, *(done.tool for done in desk.story.done)} - {SUBMIT}
    named = [tool for tool in known if tool in told]
    if not named:
        return Verdict(False, "No tool that exists is named in the report.")
    return Verdict(True, f"Names {', '.join(sorted(named))}, which exist.")


def _gaps_told(sections: Sequence[Section]) -> Verdict:
    told = any(one.title == GAPS_TITLE or "not cover" in one.text.lower() for one in sections)
    return Verdict(told, "It says what was left out." if told else "It does not say what is left.")


def _by_words(demand: Demand, sections: Sequence[Section]) -> Verdict:
    """Judge a criterion that no rule fits by its words: is there a place that speaks of it?"""
    wanted = stems(demand.text)
    rated = [
        (len(overlap(wanted, stems(line))), line)
        for one in sections
        if one.title != "Criteria"
        for line in one.text.splitlines()
    ]
    best, line = max(rated, default=(0, ""), key=lambda one: one[0])
    if wanted and best * 2 > len(set(wanted)):
        return Verdict(True, f'No rule of mine fits; by its words it is here: "{line[:300]}".')
    return Verdict(False, "No rule of mine fits, and no line of the work speaks of it.")


def _lengths_told(desk: Desk) -> Verdict | None:
    """Check the lines of files that are no Python; None where none are told."""
    counted = {
        str(done.arguments.get("path")): count(done.data, "line_count")
        for done in desk.story.done
        if done.tool == INFO and done.ok
    }
    checked = [entry for entry in sized(desk) if entry.path in counted]
    wrong = [entry for entry in checked if entry.rule != f"{counted[entry.path]} lines"]
    if wrong:
        first = wrong[0]
        return Verdict(
            False, f"{first.path} has {counted[first.path]} lines ({INFO}), not {first.rule}."
        )
    if not checked:
        return None
    named = ", ".join(f"{entry.path} ({entry.rule})" for entry in checked)
    return Verdict(True, f"There is no Python to measure; {INFO} confirms {named}.")
