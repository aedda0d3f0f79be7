"""The words in which a model is told who it is, what it knows and what it may do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gathering_agent.models import Background, Turn
from gathering_agent.models_agents import Agent, Style
from gathering_agent.resuming import Pause

ANSWER_NOW = (
    "This turn ends now: its bound on tool calls or steps is reached, or the same calls were made "
    "again and again. Do not ask for tools. Answer with what you have, and say what was not done."
)
SUBMIT_NOW = (
    "This turn ends now: its bound on tool calls or steps is reached, or the same calls were made "
    "again and again. Call submit_result now with what you have, and say in it what was not done."
)
SUBMIT_IS_MISSING = "You have not submitted a result yet. Call submit_result now."
NOT_ANSWERED = "The turn ended before this call was answered."

_STYLES = {
    Style.BALANCED: "",
    Style.CONCISE: "Be brief.",
    Style.DETAILED: "Explain at length.",
    Style.TECHNICAL: "Write for experts.",
    Style.FRIENDLY: "Be warm.",
    Style.FORMAL: "Be reserved and formal.",
}


def system_prompt(
    agent: Agent,
    turn: Turn,
    background: Background,
    *,
    workspace: bool,
    pause: Pause | None = None,
) -> str:
    """Return what a model is told before the dialogue."""
    return "\n\n".join(
        part
        for part in (
            "\n".join(_who(agent)),
            "\n".join(_bounds(turn, workspace=workspace)),
            _resumed(pause) if pause else "",
            "\n".join(_known(background)),
        )
        if part
    )


def _who(agent: Agent) -> Iterator[str]:
    persona = agent.fields.persona
    yield f"You are {agent.fields.name}" + (f", {persona.role}." if persona.role else ".")
    if persona.base_prompt:
        yield persona.base_prompt
    if persona.traits:
        yield f"You are {_listed(persona.traits)}."
    if agent.fields.competences:
        yield f"You are good at {_listed([c.name for c in agent.fields.competences])}."
    if persona.specialisations:
        yield f"You know best: {_listed(persona.specialisations)}."
    if persona.preferences:
        yield f"You prefer: {'; '.join(persona.preferences)}."
    if _STYLES[persona.style]:
        yield _STYLES[persona.style]
    if persona.languages:
        yield f"You speak {_listed(persona.languages)} (BCP 47)."


def _bounds(turn: Turn, *, workspace: bool) -> Iterator[str]:
    yield (
        f"In this turn you may make at most {turn.tool_limit} tool calls; those that you ask for "
        "at once run in parallel."
    )
    if workspace:
        yield "Your tools work in the workspace of this session; paths are relative to it."
    if turn.result_schema is not None:
        yield "End this turn by calling submit_result; that call does not count."


def _resumed(pause: Pause) -> str:
    return (
        f"This conversation rested for {pause.words}: what was said before is from "
        f"{pause.since:%Y-%m-%d %H:%M} UTC or earlier, and may not hold any more."
    )


def _known(background: Background) -> Iterator[str]:
    if background.recall_failed:
        yield "Your memories cannot be read just now; say so where it matters."
    if background.memories:
        yield "What you remember that may matter here:"
        for memory in background.memories:
            yield f"- ({memory.scope}) {memory.text}"


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words)
