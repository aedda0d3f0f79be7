"""Review a task's work: read what was handed in, run tools of one's own, judge each criterion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from gathering_agent.models import JsonObject
from gathering_agent.models_offline import Thought
from gathering_agent.offline import report
from gathering_agent.offline.assignment import Assignment
from gathering_agent.offline.checks import Verdict, check_topic
from gathering_agent.offline.demands import Demand, demands_of
from gathering_agent.offline.evidence import Found, found
from gathering_agent.offline.report import GAPS_TITLE, RUN_TITLE, Section
from gathering_agent.offline.results import fitted
from gathering_agent.offline.story import SUBMIT, Done, Story, count, text
from gathering_agent.offline.topics import COMPLEXITY, LINT, SIZE, Topic, tool_for
from gathering_agent.offline.words import overlap, stems

_READ = "fs_read"
_FILES = 3  # that are read at most
_LINES = 5000
_CLOSER = 2  # files per topic that are looked at alone
_PLACED = (LINT, COMPLEXITY, SIZE)  # whose entries name lines
_OFFLINE = "(Offline model, rule-based.)"


@dataclass(frozen=True, slots=True)
class _Desk:
    """The work to review and what is known of it."""

    task: Assignment
    story: Story
    demands: tuple[Demand, ...]

    @property
    def topics(self) -> list[Topic]:
        return list({t.key: t for demand in self.demands for t in demand.topics}.values())


def review(task: Assignment, story: Story) -> Thought:
    """Return the next step."""
    desk = _Desk(task, story, tuple(demands_of(task.criteria)))
    calls = [] if story.closing else list(_pending(desk))[: story.left]
    if calls:
        names = ", ".join(dict.fromkeys(tool for tool, _ in calls))
        return Thought(f"{_OFFLINE} Checking with {names}.", tuple(calls))
    return _judge(desk)


def _pending(desk: _Desk) -> Iterator[tuple[str, JsonObject]]:
    """Yield the calls to make now."""
    story = desk.story
    for call in _reads(desk):
        if _READ in story.tools and not story.tried(*call):
            yield call
    for topic in desk.topics:
        tool = tool_for(topic, story)
        arguments = _arguments(topic, tool)
        if tool and not story.tried(tool, arguments):
            yield tool, arguments
    yield from _closer(desk)


def _reads(desk: _Desk) -> Iterator[tuple[str, JsonObject]]:
    """Yield the reads of what was handed in, further parts of long files as well."""
    for artifact in desk.task.artifacts[:_FILES]:
        yield _READ, {"path": artifact.path, "line_count": _LINES}
        for done in _parts(desk, artifact.path):
            following = count(done.data, "next_line")
            if following:
                yield _READ, {
                    "path": artifact.path, "start_line": following, "line_count": _LINES,
                }  # fmt: skip


def _parts(desk: _Desk, path: str) -> list[Done]:
    return [
        done
        for done in desk.story.done
        if done.tool == _READ and done.ok and done.arguments.get("path") == path
    ]


def _arguments(topic: Topic, tool: str) -> JsonObject:
    """Return the arguments of an own run: it looks further than the author's."""
    if tool != topic.tool:
        return {}
    wider = {"limit": 100} if "limit" in topic.arguments else {}
    return {**topic.arguments, **wider}


def _closer(desk: _Desk) -> Iterator[tuple[str, JsonObject]]:
    """Yield runs on single files whose entries the runs on everything do not show."""
    for topic in desk.topics:
        own = _own(desk, topic)
        if topic not in _PLACED or own is None or own.total <= len(own.entries):
            continue
        for path in _unseen_files(desk, topic, own)[:_CLOSER]:
            arguments: JsonObject = {**_arguments(topic, topic.tool), "path": path}
            if not desk.story.tried(topic.tool, arguments):
                yield topic.tool, arguments


def _unseen_files(desk: _Desk, topic: Topic, own: Found) -> list[str]:
    seen = {(entry.path, entry.line) for entry in own.entries}
    named = [e for one in report.sections_on(topic, _sections(desk)) for e in one.rows]
    places = [(entry.path, entry.line) for entry in named if entry.line]
    return list(dict.fromkeys(path for path, line in places if (path, line) not in seen))


# --- Judging ------------------------------------------------------------------------------------


def _sections(desk: _Desk) -> list[Section]:
    content = "\n".join(
        text(done.data, "content")
        for artifact in desk.task.artifacts[:_FILES]
        for done in _parts(desk, artifact.path)
    )
    return report.read(content)


def _runs(desk: _Desk, topic: Topic) -> list[Found]:
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


def _own(desk: _Desk, topic: Topic) -> Found | None:
    """Return what the own runs on a topic show, put together."""
    runs = _runs(desk, topic)
    if not runs:
        return None
    entries = dict.fromkeys(entry for one in runs for entry in one.entries)
    return replace(runs[0], entries=tuple(entries))


def _closed(desk: _Desk, topic: Topic) -> frozenset[str]:
    """Return the files of which an own run shows all that there is."""
    return frozenset(
        str(one.done.arguments["path"])
        for one in _runs(desk, topic)
        if "path" in one.done.arguments and one.total <= len(one.entries)
    )


def _judge(desk: _Desk) -> Thought:
    sections = _sections(desk)
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


def _general(desk: _Desk, sections: Sequence[Section]) -> Verdict:
    if not desk.task.artifacts:
        return Verdict(bool(desk.task.summary), f"No file; summary: {desk.task.summary or 'none'}")
    return Verdict(bool(sections), "The files can be read." if sections else "Nothing can be read.")


def _changed(desk: _Desk) -> list[str]:
    """Return which files are not what was handed in."""
    changed = []
    for artifact in desk.task.artifacts[:_FILES]:
        for done in _parts(desk, artifact.path)[:1]:
            now = text(done.data, "sha256")
            if artifact.sha256 and now and now != artifact.sha256:
                changed.append(f"{artifact.path} was changed after it was handed in.")
    return changed


def _criterion(desk: _Desk, demand: Demand, sections: Sequence[Section]) -> Verdict:
    """Judge one criterion: each thing that it asks for has to be so."""
    parts = [_file(desk, path) for path in demand.files]
    if demand.tools_run:
        parts.append(_tools_named(desk, sections))
    parts += [
        check_topic(topic, demand, sections, _own(desk, topic), _closed(desk, topic))
        for topic in demand.topics
    ]
    if demand.gaps and not demand.topics:
        parts.append(_gaps_told(sections))
    if not parts:
        parts.append(_by_words(demand, sections))
    evidence = " ".join(part.evidence for part in parts)
    return Verdict(all(part.met for part in parts), evidence)


def _file(desk: _Desk, path: str) -> Verdict:
    parts = _parts(desk, path)
    if parts:
        first = parts[0].data
        size = f"{count(first, 'line_count')} lines, sha256 {text(first, 'sha256')[:12]}"
        return Verdict(True, f"{path} can be read ({size}).")
    handed_in = [artifact.path for artifact in desk.task.artifacts]
    if path in handed_in:
        failed = [d.text[:200] for d in desk.story.done if d.arguments.get("path") == path]
        return Verdict(False, f"{path} cannot be read: {failed[-1] if failed else 'not tried'}.")
    return Verdict(False, f"{path} was not handed in; handed in: {', '.join(handed_in) or 'none'}.")


def _tools_named(desk: _Desk, sections: Sequence[Section]) -> Verdict:
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
