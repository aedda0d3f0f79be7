"""The rows of turns. Plain SQL: these run several times in each turn."""

from __future__ import annotations

import json
from typing import Any

from gathering_agent.context.models import Project, Strategy
from gathering_agent.errors import Refusal, SessionBusy, TurnNotFound
from gathering_agent.models import (
    LIVE,
    Background,
    Limits,
    Recalled,
    StopReason,
    Turn,
    TurnState,
    Usage,
    as_text,
)
from gathering_agent.ports import TurnFilter
from gathering_mesh import postgres_errors
from gathering_mesh.postgres import Transaction
from gathering_mesh.statements import Row

ONE_LIVE_TURN = "turns_one_live"
_SELECT = """
select id, session_id, agent_id, owner_user_id, task_id, state, max_steps, max_tool_calls,
    result_schema::text, model_calls, tool_calls, input_tokens, output_tokens, text, result::text,
    stop_reason, error_reason, error_message, model, background::text, trace, create_time, end_time,
    delegation_id, failed_calls, failed_tokens, coalesce(agent_version, 0) as agent_version,
    cached_tokens, cost, failed_cost, refusal::text, place, start_time, deadline, resume_strategy
from agent.turns where tenant_id = $1
"""
# $3 and on: what changes while a turn lives; the insert adds what does not. What failed attempts
# used is counted by `store_attempts` alone.
_CHANGING = (
    "state", "model_calls", "tool_calls", "input_tokens", "output_tokens", "text", "result",
    "stop_reason", "error_reason", "error_message", "model", "background", "end_time",
    "cached_tokens", "cost", "refusal", "start_time",
)  # fmt: skip
_FIXED = (
    "session_id", "agent_id", "owner_user_id", "task_id", "max_steps", "max_tool_calls",
    "result_schema", "trace", "create_time", "delegation_id", "agent_version", "failed_cost",
    "place", "deadline",
    "resume_strategy",
)  # fmt: skip
_JSON = {"result", "background", "result_schema", "refusal"}


def _places(names: tuple[str, ...]) -> list[str]:
    return [f"${n}{'::text::jsonb' if name in _JSON else ''}" for n, name in enumerate(names, 3)]


_INSERT = (
    f"insert into agent.turns (tenant_id, id, {', '.join(_CHANGING + _FIXED)}) "  # noqa: S608
    f"values ($1, $2, {', '.join(_places(_CHANGING + _FIXED))})"
)
_UPDATE = (
    "update agent.turns set "  # noqa: S608
    + ", ".join(f"{n} = {p}" for n, p in zip(_CHANGING, _places(_CHANGING), strict=True))
    + " where tenant_id = $1 and id = $2 returning end_time is not null and exists (select"
    " from agent.turns w where w.tenant_id = $1 and w.session_id = turns.session_id"
    " and w.state = 'waiting')"
)


class TurnStore:
    """See `ports.TurnRows`."""

    async def insert(self, tx: Transaction, turn: Turn) -> None:
        """Add a turn; SessionBusy where another of the session lives."""
        with postgres_errors.unique(ONE_LIVE_TURN, lambda: SessionBusy("")):
            await tx.run(
                _INSERT,
                tx.tenant,
                turn.id,
                *_changing(turn),
                turn.session_id,
                turn.agent_id,
                turn.owner_user_id,
                turn.task_id,
                turn.limits.max_steps,
                turn.limits.max_tool_calls,
                None if turn.result_schema is None else as_text(turn.result_schema),
                turn.trace,
                turn.create_time,
                turn.delegation_id,
                turn.agent_version or None,
                turn.usage.failed_cost,
                turn.place,
                turn.deadline,
                turn.resume_strategy.value,
            )

    async def get(
        self, tx: Transaction, turn_id: str, *, lock: bool = False, deleted: bool = False
    ) -> Turn:
        """Return a turn; TurnNotFound."""
        kept = "" if deleted else " and not deleted"
        query = f"{_SELECT} and id = $2{kept}{' for update' if lock else ''}"
        row = await tx.fetch_one(query, tx.tenant, turn_id)
        if row is None:
            raise TurnNotFound(turn_id)
        return _turn(row)

    async def page(
        self, tx: Transaction, which: TurnFilter, *, before: str, limit: int
    ) -> list[Turn]:
        """Return turns, newest first."""
        wanted = {
            "owner_user_id": which.owner,
            "session_id": which.session_id,
            "task_id": which.task_id,
            "agent_id": which.agent_id,
        }
        given = {name: value for name, value in wanted.items() if value}
        filters = " and not deleted" + "".join(
            f" and {name} = ${n}" for n, name in enumerate(given, 4)
        )
        query = f"{_SELECT} and ($2 = '' or id < $2){filters} order by id desc limit $3"
        rows = await tx.fetch(query, tx.tenant, before, limit, *given.values())
        return list(map(_turn, rows))

    async def hold(self, tx: Transaction, turn_id: str) -> None:
        """Lock a turn's row for what will be counted there."""
        query = "select from agent.turns where tenant_id = $1 and id = $2 for no key update"
        await tx.run(query, tx.tenant, turn_id)

    async def live(self, tx: Transaction, session_id: str) -> str:
        """Return the turn of a session that has not ended, empty if there is none."""
        query = (
            "select id from agent.turns where tenant_id = $1 and session_id = $2"
            " and state = any($3)"
        )
        living = [state.value for state in LIVE]
        found: str | None = await tx.fetch_value(query, tx.tenant, session_id, living)
        return found or ""

    async def update(self, tx: Transaction, turn: Turn) -> bool:
        """Write what changes while a turn lives; tell whether it ended and others wait for that."""
        return bool(await tx.fetch_value(_UPDATE, tx.tenant, turn.id, *_changing(turn)))


def _changing(turn: Turn) -> tuple[object, ...]:
    """Return the values of `_CHANGING`, in that order."""
    return (
        turn.state.value,
        turn.usage.model_calls,
        turn.usage.tool_calls,
        turn.usage.input_tokens,
        turn.usage.output_tokens,
        turn.text,
        None if turn.result is None else as_text(turn.result),
        turn.stop_reason.value if turn.stop_reason else "",
        turn.error_reason,
        turn.error_message,
        turn.model,
        None if turn.background is None else as_text(turn.background),
        turn.end_time,
        turn.usage.cached_tokens,
        turn.usage.cost,
        None if turn.refusal is None else as_text(turn.refusal),
        turn.start_time,
    )


def _turn(row: Row) -> Turn:
    return Turn(
        id=row["id"],
        session_id=row["session_id"],
        agent_id=row["agent_id"],
        owner_user_id=row["owner_user_id"],
        task_id=row["task_id"],
        state=TurnState(row["state"]),
        limits=Limits(row["max_steps"], row["max_tool_calls"]),
        result_schema=_json(row["result_schema"]),
        create_time=row["create_time"],
        usage=Usage(
            row["model_calls"],
            row["tool_calls"],
            row["input_tokens"],
            row["output_tokens"],
            row["failed_calls"],
            row["failed_tokens"],
            row["cached_tokens"],
            row["cost"],
            row["failed_cost"],
        ),
        text=row["text"],
        result=_json(row["result"]),
        stop_reason=StopReason(row["stop_reason"]) if row["stop_reason"] else None,
        error_reason=row["error_reason"],
        error_message=row["error_message"],
        refusal=Refusal(**_json(row["refusal"])) if row["refusal"] else None,
        model=row["model"],
        background=_background(_json(row["background"])),
        delegation_id=row["delegation_id"],
        trace=row["trace"],
        end_time=row["end_time"],
        agent_version=row["agent_version"],
        place=row["place"],
        start_time=row["start_time"],
        deadline=row["deadline"],
        resume_strategy=Strategy(row["resume_strategy"]),
    )


def _json(stored: str | None) -> Any:
    return None if stored is None else json.loads(stored)


def _background(stored: dict[str, Any] | None) -> Background | None:
    if stored is None:
        return None
    memories = tuple(Recalled(**memory) for memory in stored["memories"])
    project = stored.get("project")
    return Background(memories, stored["recall_failed"], project and _project(project))


def _project(stored: dict[str, Any]) -> Project:
    """Read a project; its lists come back as lists."""
    commands = tuple((name, line) for name, line in stored["commands"])
    lists = {name: tuple(stored[name]) for name in ("tools", "conventions", "key_files")}
    return Project(**{**stored, **lists, "commands": commands})
