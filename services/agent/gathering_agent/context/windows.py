"""The dialogue of a step, as much as there is room for: older turns, and the present one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from gathering_agent.clean import shortened
from gathering_agent.context.counting import middle_cut, tokens
from gathering_agent.context.marking import data, summary
from gathering_agent.context.prompts import NOT_ANSWERED
from gathering_agent.models import Message, Role, ToolResult
from gathering_agent.providers.models_dialogue import Said

_CUT_RESULTS = (500, 80)  # characters that stay of tool results that have to give room
_CALLS = 40  # of steps that gave way, that are named


@dataclass(frozen=True, slots=True)
class Window:
    """What is kept of messages: from `start` on, some of it cut."""

    said: tuple[Said, ...]
    tokens: int
    start: int = 0
    cut: bool = False


def dialogue(history: Sequence[Message]) -> list[Said]:
    """Return messages as a model takes them: each tool call is answered in the next message.

    Calls of a turn that ended before they were answered get an answer that says so, as part of
    the next message's place, so that the list keeps its indices.
    """
    said = [_said(message) for message in history]
    following = [*history[1:], None][: len(history)]
    for place, (message, after) in enumerate(zip(history, following, strict=True)):
        open_calls = message.tool_calls and (after is None or after.role is not Role.TOOL)
        if open_calls and after is not None:
            text = f"{said[place].text}\n[{NOT_ANSWERED}]".strip()
            said[place] = Said(Role.ASSISTANT, text)
    return said


def _said(message: Message) -> Said:
    results = tuple(_marked(result) for result in message.tool_results)
    text, calls, images = message.text, message.tool_calls, message.images
    return Said(message.role, text, calls, results, message.native, images)


def _marked(result: ToolResult) -> ToolResult:
    return replace(result, text=data(f"tool {result.tool}", result.text))


def older(history: Sequence[Message], said: Sequence[Said], begin: int, room: int) -> Window:
    """Return the turns from place `begin` on in at most `room` tokens.

    Long results are cut before whole turns go; of turns so many go that half of the room is free,
    so that the next steps begin with the same ones.
    """
    sizes = [size(one) for one in said]
    if sum(sizes[begin:]) <= room:
        return Window(tuple(said[begin:]), sum(sizes[begin:]), begin)
    short = [_cut(one, _CUT_RESULTS[0]) for one in said]
    behind = list(accumulate((size(one) for one in reversed(short)), initial=0))[::-1]
    if behind[begin] <= room:
        return Window(tuple(short[begin:]), behind[begin], begin, cut=True)
    starts = [n for n in range(begin, len(said)) if history[n].role is Role.USER]
    start = next((n for n in starts if behind[n] <= room // 2), len(said))
    return Window(tuple(short[start:]), behind[start], start, cut=True)


def present(messages: Sequence[Message], said: Sequence[Said], room: int) -> Window:
    """Return the turn that runs in at most about `room` tokens.

    Long results are cut, oldest first; then the oldest steps give way to the names of their calls;
    then the middle of the request goes. The last step always stays.
    """
    kept = list(said)
    left = sum(map(size, kept))
    cut = left > room
    for longest in _CUT_RESULTS:
        for place, one in enumerate(kept):
            if left <= room:
                return Window(tuple(kept), left, cut=cut)
            kept[place] = _cut(one, longest)
            left += size(kept[place]) - size(one)
    kept, left = _without_steps(messages, kept, left, room)
    if left > room:
        request = kept[0]
        kept[0] = replace(request, text=middle_cut(request.text, room - left + size(request)))
    return Window(tuple(kept), sum(map(size, kept)), cut=cut)


def _without_steps(
    messages: Sequence[Message], kept: list[Said], left: int, room: int
) -> tuple[list[Said], int]:
    """Drop the oldest steps, each with its results, until the rest fits; name their calls."""
    last = max((n for n, m in enumerate(messages) if m.role is Role.ASSISTANT), default=0)
    gone = 1
    while gone < last and left > room:
        left -= size(kept[gone])
        gone += 1
        if gone < last and messages[gone].role is Role.TOOL:
            left -= size(kept[gone])
            gone += 1
    if gone == 1:
        return kept, left
    note = Said(Role.USER, summary(_named(messages[1:gone])))
    return [kept[0], note, *kept[gone:]], left + size(note)


def _named(messages: Sequence[Message]) -> str:
    calls = [call for message in messages for call in message.tool_calls]
    failed = {r.call_id for message in messages for r in message.tool_results if r.failed}
    lines = [
        f"- {call.tool} {shortened(json.dumps(call.arguments, ensure_ascii=False), 120)}"
        + (" (failed)" if call.call_id in failed else "")
        for call in calls[-_CALLS:]
    ]
    head = "In this turn you called these tools already; there is no room for their results."
    if len(calls) > _CALLS:
        head += f" The last {_CALLS} of {len(calls)} are named."
    return "\n".join((head, *lines))


def _cut(said: Said, longest: int) -> Said:
    """Return a message with its long tool results cut short."""
    if said.role is not Role.TOOL:
        return said
    return replace(said, tool_results=tuple(_short(r, longest) for r in said.tool_results))


def _short(result: ToolResult, longest: int) -> ToolResult:
    text = result.text
    if len(text) <= longest + len(data(f"tool {result.tool}", "")):
        return result
    head, _, rest = text.partition("\n")
    inner, _, end = rest.rpartition("\n")
    return replace(result, text=f"{head}\n{shortened(inner, longest)}\n{end}")


def cut_sizes(history: Sequence[Message]) -> list[int]:
    """Return the tokens of messages whose long results are cut."""
    return [size(_cut(one, _CUT_RESULTS[0])) for one in dialogue(history)]


def size(said: Said) -> int:
    """Return an estimate of a message's tokens; its provider's own form goes in its place."""
    told = tokens(*(text for text in _own_parts(said) if text))
    told += sum(image.tokens for image in said.images)
    if said.native is None:
        return told
    return max(told, tokens(json.dumps(said.native.content)))


def parts(one: Said) -> Iterable[str]:
    """Yield the texts of a message; no provider puts more of it into a prompt."""
    yield from _own_parts(one)
    yield json.dumps(one.native.content) if one.native else ""


def _own_parts(one: Said) -> Iterable[str]:
    yield one.text
    yield from (f"{call.tool}{json.dumps(call.arguments)}" for call in one.tool_calls)
    yield from (f"{result.tool}{result.text}" for result in one.tool_results)
