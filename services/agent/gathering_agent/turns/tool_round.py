"""The tool calls of one step: run in parallel, each at most once, every failure a result."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Set
from dataclasses import dataclass, replace
from functools import partial

from gathering_agent.clean import clean_text, shortened
from gathering_agent.errors import AwaitsApproval
from gathering_agent.models import JsonObject, ToolCall, ToolResult, Turn, step_of
from gathering_agent.ports import GrantedTool, Skills, Work
from gathering_agent.streams.models import Activity, Doing, Output
from gathering_agent.turns.own_tools import SUBMIT, OwnTools, failed, refusal, submitted
from gathering_agent.turns.repeating import IN_VAIN
from gathering_mesh import faults
from gathering_mesh.errors import (
    Aborted,
    Cancelled,
    DataLoss,
    DeadlineExceeded,
    DomainError,
    Internal,
    Unauthenticated,
    Unavailable,
)

LONGEST_RESULT = 70_000  # characters that a model is shown of one result; tools give 64 KiB
LONGEST_ROUND = 700_000  # of all results of a step, which are one message
_AT_ONCE = 16  # calls of one step
Tell = Callable[[Activity | Output], None]
# Of a service, not of the tool: the same call is made again, under the same name.
_TRANSIENT = (Aborted, Cancelled, DeadlineExceeded, Internal, Unauthenticated, Unavailable)


@dataclass(frozen=True, slots=True)
class Round:
    """What came of a step's tool calls; `ran` counts those that count against the bound."""

    results: tuple[ToolResult, ...]
    ran: int
    result: JsonObject | None


class ToolRounds:
    """Runs the tool calls of steps."""

    def __init__(self, own: OwnTools, skills: Skills) -> None:
        self._own = own
        self._skills = skills

    async def run(
        self,
        work: Work,
        turn: Turn,
        calls: tuple[ToolCall, ...],
        granted: Mapping[str, GrantedTool],
        offered: Set[str],
        *,
        in_vain: Set[str] = frozenset(),
        tell: Tell = lambda news: None,
    ) -> Round:
        """Run the calls of one step, as many as the turn's bound leaves, but those made in vain.

        `offered` names the tools that the model was told of, `granted` what stands behind those of
        the skills service; `tell` hears what runs, what it tells and what has ended.

        Which of them run depends on what is stored alone, so a takeover decides the same. Raises
        what services answer when they are not to be reached; then the same round is run again.
        """
        left = turn.tool_limit - turn.usage.tool_calls
        result: JsonObject | None = None
        pending: list[Awaitable[ToolResult]] = []
        ran = 0
        for call in calls:
            if call.tool == SUBMIT and not call.problem:
                taken, value = submitted(turn, call)
                result = value if value is not None else result
                pending.append(_ready(taken))
            elif call.call_id in in_vain:
                pending.append(_ready(failed(call, IN_VAIN)))
            elif ran < left and not call.problem:
                ran += 1
                pending.append(_told(tell, call, self._one(work, call, granted, offered, tell)))
            else:
                pending.append(_ready(_not_run(turn, call)))
        return Round(_bounded(await _all(pending)), ran, result)

    async def _one(
        self,
        work: Work,
        call: ToolCall,
        granted: Mapping[str, GrantedTool],
        offered: Set[str],
        tell: Tell,
    ) -> ToolResult:
        try:
            result = await self._run(work, call, granted, offered, tell)
        except DataLoss as error:
            result = refusal(call, error)
        except _TRANSIENT:
            raise
        except DomainError as error:
            if error.retry_after is not None:
                raise
            result = refusal(call, error)
        return replace(result, text=clean_text(result.text))

    async def _run(
        self,
        work: Work,
        call: ToolCall,
        granted: Mapping[str, GrantedTool],
        offered: Set[str],
        tell: Tell,
    ) -> ToolResult:
        if self._own.has(call.tool) and call.tool in offered:
            return await self._own.run(work, call)
        tool = granted.get(call.tool)
        if tool is None:
            return failed(call, f"There is no tool {call.tool!r}, or it is not granted to you.")
        await faults.point("turn.tool_call")
        result = await self._skills.execute(work, call, tool, tell)
        await faults.point("turn.tool_answered")
        return result


def _not_run(turn: Turn, call: ToolCall) -> ToolResult:
    if call.problem:
        return failed(call, f"Not run: {call.problem}.")
    return failed(call, f"Not run: the bound of {turn.tool_limit} tool calls is reached.")


async def _told(tell: Tell, call: ToolCall, run: Awaitable[ToolResult]) -> ToolResult:
    """Wait for a call's result; tell when it begins, when it ends and what it waits for."""
    doing = partial(Activity, step_of(call.call_id), call.call_id, call.tool)
    tell(doing(Doing.STARTED))
    try:
        result = await run
    except AwaitsApproval as asked:
        tell(doing(Doing.AWAITS_APPROVAL, asked.execution_id))
        raise
    tell(doing(Doing.FINISHED, result.execution_id, result.failed))
    return result


async def _ready(result: ToolResult) -> ToolResult:
    return result


def _bounded(results: tuple[ToolResult, ...]) -> tuple[ToolResult, ...]:
    """Cut texts so that all of them fit into a message."""
    longest = min(LONGEST_RESULT, LONGEST_ROUND // max(1, len(results)))
    return tuple(one if len(one.text) <= longest else _cut(one, longest) for one in results)


def _cut(result: ToolResult, longest: int) -> ToolResult:
    """Return a result as the model is shown it, with how it gets the rest."""
    whole = f" The whole result is that of {result.execution_id}." if result.execution_id else ""
    advice = f"[Ask for less at a time, or for fewer results at once, to see all.{whole}]"
    return replace(result, text=f"{shortened(result.text, longest)}\n{advice}")


async def _all(pending: list[Awaitable[ToolResult]]) -> tuple[ToolResult, ...]:
    """Wait for all, also when one fails: what ran has its result kept by its service."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def placed(one: Awaitable[ToolResult]) -> ToolResult:
        async with places:
            return await one

    results = await asyncio.gather(*map(placed, pending), return_exceptions=True)
    done = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        done.append(result)
    return tuple(done)
