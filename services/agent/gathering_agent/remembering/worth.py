"""Whether a turn is worth looking through, told before it ends: most turns schedule nothing."""

from __future__ import annotations

from collections.abc import Sequence

from gathering_agent.agents.models import AgentFields, MemoryPolicy, RememberMode
from gathering_agent.models import Message, Role, Turn
from gathering_agent.remembering.models import Finding
from gathering_agent.remembering.rules import chosen, told

REMEMBER = "remember"  # the kind of work
_SUMMARY = "summary"  # what the result of work on a task has, and that of a review has not
_SHORTEST = 4  # words of what a model is asked about
_LONGEST = 1_000  # characters of a summary
_DONE = 0.6  # how important it is what came of a task


def worth_looking(fields: AgentFields, turn: Turn, history: Sequence[Message]) -> bool:
    """Tell whether something may be found in a turn when it is completed."""
    policy = fields.memory_policy
    if policy.mode is RememberMode.OFF:
        return False
    if turn.task_id:
        schema = turn.result_schema or {}
        properties = schema.get("properties")
        return isinstance(properties, dict) and _SUMMARY in properties
    asked = request_of(turn, history)
    if policy.mode is RememberMode.MODEL:
        return len(asked.split()) >= _SHORTEST
    return bool(by_rules(policy, turn, asked))


def request_of(turn: Turn, history: Sequence[Message]) -> str:
    """Return what the user said in a turn."""
    said = (one.text for one in history if one.turn_id == turn.id and one.role is Role.USER)
    return next(said, "")


def by_rules(policy: MemoryPolicy, turn: Turn, asked: str) -> list[Finding]:
    """Return what is worth remembering by rules: of a chat what was said, of a task its result."""
    found = list(_of_task(turn)) if turn.task_id else list(told(asked))
    return chosen(found, threshold=policy.least, limit=policy.most)


def _of_task(turn: Turn) -> list[Finding]:
    """Return what came of work on a task; a later round takes the place of an earlier one."""
    summary = (turn.result or {}).get(_SUMMARY)
    if not isinstance(summary, str) or not summary.strip():
        return []
    said = " ".join(summary.split())[:_LONGEST]
    text = f"What came of my work on a task: {said}"
    return [Finding(text, said, "experience", _DONE, "task", turn.task_id, personal=False)]
