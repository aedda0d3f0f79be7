"""What is unfinished in a session, as it follows from its messages: requests, calls, files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gathering_agent.clean import shortened
from gathering_agent.context.digests import paths
from gathering_agent.context.models import Digest
from gathering_agent.models import Message, Role, as_text
from gathering_agent.turns.own_tools import SUBMIT

_REQUEST, _CALL = 400, 300  # characters of what is told
_CALLS, _FILES = 10, 12


def unfinished(before: Sequence[Message]) -> list[str]:
    """Return what was asked for and not answered in the last turn before."""
    if not before or (before[-1].role is Role.ASSISTANT and not before[-1].tool_calls):
        return []
    if any(one.tool == SUBMIT and not one.failed for one in before[-1].tool_results):
        return []  # it ended with a result that was taken
    asked = next((m for m in reversed(before) if m.role is Role.USER), None)
    told = [f"It was asked: {_line(asked.text, _REQUEST)}"] if asked else []
    return ["Your last turn ended before it was answered.", *told, *_open_calls(before[-1])]


def _open_calls(last: Message) -> Iterator[str]:
    for call in last.tool_calls[:_CALLS]:
        arguments = _line(as_text(call.arguments), _CALL)
        yield f"Not known to have run: {call.tool} {arguments}"
    if len(last.tool_calls) > _CALLS:
        yield f"and {len(last.tool_calls) - _CALLS} more calls"


def files(before: Sequence[Message], digest: Digest | None) -> list[str]:
    """Return the files that tool calls named, latest last."""
    named = list(digest.files) if digest else []
    named += [path for m in before for call in m.tool_calls for path in paths(call.arguments)]
    return list(reversed(list(dict.fromkeys(reversed(named)))[:_FILES]))


def pending(
    before: Sequence[Message], digest: Digest | None, task_id: str, *, resumed: bool
) -> list[str]:
    """Return what there is to go on with; files only where the messages are not all shown."""
    lines = unfinished(before)
    if task_id and before:
        lines.append(f"You work on the task {task_id}.")
    if resumed and (named := files(before, digest)):
        lines.append(f"Files that your tools were used on, latest last: {', '.join(named)}.")
    return lines


def _line(text: str, longest: int) -> str:
    return shortened(" ".join(text.split()), longest)
