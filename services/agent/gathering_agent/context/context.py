"""What a model is told in one step, put together of named sections within its window.

It follows from what is stored (the agent's version, the turn with its background, the session's
messages and what is condensed of them) and from the model: whoever takes a turn over tells the
same, and another model is told as much as its own window holds. What does not fit is cut or
condensed; the text says so, and so does the report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gathering_agent.agents.models import Agent
from gathering_agent.context import projects
from gathering_agent.context.counting import fitting, tokens
from gathering_agent.context.digests import brief, extended
from gathering_agent.context.marking import data, summary
from gathering_agent.context.models import (
    Digest,
    MemorySource,
    Report,
    Section,
    SectionState,
    Strategy,
)
from gathering_agent.context.offering import offered
from gathering_agent.context.pending import pending, unfinished
from gathering_agent.context.prompts import (
    ANSWER_NOW,
    RECALL_FAILED,
    SUBMIT_IS_MISSING,
    SUBMIT_NOW,
    persona,
    resumed,
    rules,
)
from gathering_agent.context.resuming import Chosen, chosen, pause_before
from gathering_agent.context.retelling import retold
from gathering_agent.context.windows import Window, dialogue, older, present, size
from gathering_agent.models import Background, Message, Recalled, Role, Turn
from gathering_agent.providers.models_catalogue import Model
from gathering_agent.providers.models_dialogue import ModelRequest, Said, ToolSpec, ToolUse

_LEAST_OUTPUT = 1024
# Shares of the room for the input: a section takes no more, and what is left is the dialogue's.
_PERSONA, _TOOLS, _PROJECT, _MEMORIES, _SUMMARY, _PENDING = 3, 3, 10, 8, 8, 20
_RESERVE = 20  # the share of the window that stays free, for what the estimate misses
# Turns that are shown word by word of what a strategy condenses.
_TURNS_SHOWN = {Strategy.SUMMARY: 2, Strategy.TASK_FOCUSED: 1, Strategy.MINIMAL: 0}


@dataclass(frozen=True, slots=True)
class Setting:
    """What stays the same over the steps of a turn; `digest`: of what is before its messages."""

    agent: Agent
    turn: Turn
    background: Background
    model: Model
    tools: tuple[ToolSpec, ...]
    workspace: bool
    digest: Digest | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much a step may still do. `forced`: it is asked to end without further tools."""

    step: int
    tool_calls_left: int
    forced: bool


def request(
    setting: Setting, bounds: Bounds, history: Sequence[Message], submit: ToolSpec | None
) -> ModelRequest:
    """Return the model call of a step; `history` are the session's messages, oldest first.

    With its report. Those messages reach back to what `setting.digest` tells of.
    """
    return _Assembly(setting, bounds, history, submit).request()


def room_of(model: Model) -> int:
    """Return how many tokens of a model's window the input may take, as we count them."""
    window = model.context_window_tokens
    return window - output_of(model) - window // _RESERVE


def output_of(model: Model) -> int:
    """Return how many tokens an answer may have."""
    return min(model.max_output_tokens, max(_LEAST_OUTPUT, model.context_window_tokens // 4))


class _Assembly:
    """One prompt on its way. Sections are made in the order of their priority."""

    def __init__(
        self, setting: Setting, bounds: Bounds, history: Sequence[Message], submit: ToolSpec | None
    ) -> None:
        self._setting = setting
        self._bounds = bounds
        self._history = history
        self._submit = submit
        self._room = self._left = room_of(setting.model)
        self._sections: list[Section] = []
        turn_id = setting.turn.id
        self._first = next(n for n, m in enumerate(history) if m.turn_id == turn_id)
        self._said = dialogue(history)

    def request(self) -> ModelRequest:
        """Return the call of the model."""
        turn, model, bounds = self._setting.turn, self._setting.model, self._bounds
        tools, tool_use, left_out = self._tools()
        system = self._system(left_out)
        reminder = self._reminder()
        project = self._project()
        memories, shown = self._memories()
        now = self._present()
        before, chosen_ = self._before()
        report = Report(
            model.name,
            model.context_window_tokens,
            output_of(model),
            chosen_.strategy,
            chosen_.reason,
            tuple(self._sections),
        )
        return ModelRequest(
            turn_id=turn.id,
            step=bounds.step,
            model=model.wire_name,
            system=system,
            messages=(*project, *before, *memories, *now, *reminder),
            tools=tools,
            tool_use=tool_use,
            max_output_tokens=output_of(model),
            tool_calls_left=0 if bounds.forced else bounds.tool_calls_left,
            memories=tuple(memory.text for memory in shown),
            result_schema=turn.result_schema,
            report=report,
        )

    def _add(self, section: Section) -> None:
        self._sections.append(section)
        self._left -= section.tokens

    def _text(self, name: str, text: str, reason: str, share: int = 1) -> str:
        """Enter a text that is cut to its share of the room; return what stays of it."""
        kept = fitting(text, self._room // share)
        state, why = SectionState.INCLUDED, reason
        if kept != text:
            state, why = SectionState.CUT, f"{reason}; more than 1/{share} of the room"
        self._add(Section(name, state, tokens(kept), why))
        return kept

    # --- What is told before the dialogue -------------------------------------------------------

    def _tools(self) -> tuple[tuple[ToolSpec, ...], ToolUse, tuple[str, ...]]:
        """Return the tools of a step, and the names of those that there is no room for."""
        forced = self._bounds.forced
        offer = offered(self._setting.tools, self._submit, self._room // _TOOLS, forced=forced)
        if offer.tools or offer.left_out:
            state = SectionState.CUT if offer.left_out else SectionState.INCLUDED
            self._add(Section("tools", state, offer.tokens, offer.reason))
        return offer.tools, offer.use, offer.left_out

    def _system(self, left_out: Sequence[str]) -> str:
        setting = self._setting
        told = [self._text("persona", persona(setting.agent), "who the agent is", _PERSONA)]
        about = rules(setting.turn, workspace=setting.workspace, left_out=left_out)
        told.append(self._text("rules", about, "bounds of the turn, and what is data"))
        if pause := pause_before(self._history, setting.turn.id):
            text = resumed(pause)
            told.append(self._text("resume", text, f"rested for {pause.words}"))
        if setting.background.recall_failed:
            told.append(self._text("memories", RECALL_FAILED, "the memory service is away"))
        return "\n\n".join(told)

    def _reminder(self) -> list[Said]:
        """Return what is said behind the dialogue without being part of it."""
        bounds, history = self._bounds, self._history
        text = ""
        if bounds.forced and bounds.step > 1:
            text = SUBMIT_NOW if self._submit else ANSWER_NOW
        elif self._submit and history[-1].role is Role.ASSISTANT:
            text = SUBMIT_IS_MISSING
        return (
            [Said(Role.USER, self._text("reminder", text, "the turn has to end"))] if text else []
        )

    # --- What is data ---------------------------------------------------------------------------

    def _project(self) -> list[Said]:
        project = self._setting.background.project
        text = projects.told(project) if project else ""
        if not text:
            return []
        kept = fitting(text, self._room // _PROJECT)
        state = SectionState.INCLUDED if kept == text else SectionState.CUT
        marked = data("project of the workspace", kept)
        self._add(Section("project", state, tokens(marked), "what the files of the workspace say"))
        return [Said(Role.USER, marked)]

    def _memories(self) -> tuple[list[Said], list[Recalled]]:
        """Return memories as a message, best first, as many as fit, and those that did."""
        recalled = self._setting.background.memories
        if not recalled:
            return [], []
        left, texts, shown = self._room // _MEMORIES, [], []
        for memory in recalled:
            text = data(f"memory {memory.memory_id} scope {memory.scope}", memory.text)
            if (cost := tokens(text)) <= left:
                texts.append(text)
                shown.append(memory)
                left -= cost
        missing = len(recalled) - len(shown)
        head = "What you remember that may matter here:"
        if missing:
            head += f" (there is no room for {missing} more; memory_recall finds them)"
        text = "\n".join((head, *texts))
        self._add(
            Section(
                "memories",
                SectionState.CUT if missing else SectionState.INCLUDED,
                tokens(text),
                f"recalled for the request; {len(shown)} of {len(recalled)} fit",
                memories=tuple(MemorySource(m.memory_id, m.score, m in shown) for m in recalled),
            )
        )
        return [Said(Role.USER, text)], shown

    # --- The dialogue ---------------------------------------------------------------------------

    def _present(self) -> tuple[Said, ...]:
        first = self._first
        messages = self._history[first:]
        kept = present(messages, self._said[first:], max(self._left, 0))
        state = SectionState.CUT if kept.cut else SectionState.INCLUDED
        why = "results, steps or request cut for room" if kept.cut else "the turn that runs"
        self._add(_messages_section("turn", state, kept.tokens, why, messages))
        return kept.said

    def _before(self) -> tuple[list[Said], Chosen]:
        """Return what was said before the turn: the summary, what is pending, the window."""
        before, said = self._history[: self._first], self._said[: self._first]
        digest = self._setting.digest
        way = chosen(
            self._setting.turn.resume_strategy,
            self._history,
            self._first,
            [size(one) for one in said],
            self._room,  # not what is left of it: that is less with each step of the turn
            unfinished=bool(unfinished(before)),
        )
        if not before and digest is None:
            return [], way
        begin = _begin(before, way)
        for_summary = min(self._room // _SUMMARY, max(self._left, 0) // 3)
        kept = older(before, said, begin, max(self._left, 0) if not (digest or begin) else 0)
        if digest is not None or begin or kept.start:
            kept = older(before, said, begin, max(self._left - for_summary, 0))
            digest = extended(digest or Digest(), list(map(brief, before[: kept.start])))
        front = self._summary(digest, way, for_summary)
        open_work = self._pending(before, digest)
        self._window(before, kept, way)
        return [*front, *kept.said, *open_work], way

    def _summary(self, digest: Digest | None, way: Chosen, room: int) -> list[Said]:
        if digest is None:
            return []
        turns = way.strategy in (Strategy.FULL, Strategy.SUMMARY)
        room = room if way.strategy is not Strategy.MINIMAL else min(room, 200)
        text = summary(retold(digest, room, turns=turns))
        why = f"{digest.messages} messages condensed"
        why += ", by a model" if digest.text else ""
        self._add(Section("summary", SectionState.CONDENSED, tokens(text), why, 1, digest.upto))
        return [Said(Role.USER, text)]

    def _pending(self, before: Sequence[Message], digest: Digest | None) -> list[Said]:
        task_id = self._setting.turn.task_id
        lines = pending(before, digest, task_id, resumed=digest is not None)
        if not lines:
            return []
        text = fitting("\n".join(lines), self._room // _PENDING)
        text = data("what is pending in this session", text)
        self._add(Section("pending", SectionState.INCLUDED, tokens(text), "unfinished before"))
        return [Said(Role.USER, text)]

    def _window(self, before: Sequence[Message], kept: Window, way: Chosen) -> None:
        if not before:
            return
        shown = before[kept.start :]
        if not shown:
            why = f"nothing word by word: {way.reason}"
            self._add(Section("window", SectionState.LEFT_OUT, 0, why))
            return
        state = SectionState.CUT if kept.cut or kept.start else SectionState.INCLUDED
        why = "long results or older turns cut for room" if kept.cut else way.reason
        self._add(_messages_section("window", state, kept.tokens, why, shown))


def _begin(before: Sequence[Message], way: Chosen) -> int:
    """Return the place from which on messages are shown by a strategy: where a turn begins."""
    starts = [n for n, message in enumerate(before) if message.role is Role.USER]
    if way.strategy not in _TURNS_SHOWN:
        return starts[0] if starts else len(before)
    treated = [n for n in starts if n < way.before]
    shown = _TURNS_SHOWN[way.strategy]
    if shown and len(treated) >= shown:
        return treated[-shown]
    if shown and treated:
        return treated[0]
    return way.before


def _messages_section(
    name: str, state: SectionState, size_: int, reason: str, messages: Sequence[Message]
) -> Section:
    return Section(name, state, size_, reason, messages[0].sequence, messages[-1].sequence)
