"""The rows of digests, and the reports that stand in the messages of models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from gathering_agent.context.models import (
    FILE_ARGUMENTS,
    LONGEST_PATH,
    READ_CHARACTERS,
    Brief,
    Digest,
    Entry,
    MemorySource,
    Report,
    Section,
    SectionState,
    Statement,
    Strategy,
    ToolCount,
    TurnContext,
)
from gathering_agent.models import as_text
from gathering_mesh.postgres import Transaction

_NEAREST = """
select digest::text from agent.digests where tenant_id = $1 and session_id = $2 and upto <= $3
order by upto desc limit 1
"""
_ADD = """
with added as (
    insert into agent.digests (tenant_id, session_id, upto, digest)
    values ($1, $2, $3, $4::text::jsonb) on conflict do nothing)
update agent.sessions set condensed_upto = $3
where tenant_id = $1 and id = $2 and delete_time is null and coalesce(condensed_upto, -1) < $3
"""
# Bounded whatever was said: texts are cut and results stay where they are. The page is taken first,
# so that nothing is looked into of what is behind it.
_BRIEFS = """
with page as materialized (
    select sequence, role, text, create_time, tool_calls, tool_results
    from agent.messages
    where tenant_id = $1 and session_id = $2 and sequence > $3 and sequence <= $4
    order by sequence limit $5)
select sequence, role, left(text, $6) as text, create_time as time,
    case when tool_calls <> '[]' then array(
        select call->>'tool' from jsonb_array_elements(tool_calls) call) else '{}' end as tools,
    case when tool_calls <> '[]' then array(
        select left(call->'arguments'->>name, $7)
        from jsonb_array_elements(tool_calls) with ordinality c (call, place),
            unnest($8::text[]) with ordinality n (name, rank)
        where jsonb_typeof(call->'arguments'->name) = 'string' and call->'arguments'->>name <> ''
        order by place, rank) else '{}' end as files,
    case when tool_results <> '[]' then array(
        select result->>'tool' from jsonb_array_elements(tool_results) result
        where (result->>'failed')::boolean) else '{}' end as failed
from page order by sequence
"""
_REPORT = """
select m.step, m.context::text as context, a.input_tokens
from agent.messages m left join agent.model_attempts a
    on a.tenant_id = $1 and a.turn_id = $2 and a.step = m.step and a.generation = m.generation
        and not a.estimated
where m.tenant_id = $1 and m.turn_id = $2 and m.context is not null and ($3 = 0 or m.step = $3)
order by m.step desc limit 1
"""


class DigestStore:
    """See `ports.DigestRows`."""

    async def nearest(self, tx: Transaction, session_id: str, upto: int) -> Digest | None:
        """Return the last digest of a session that reaches no further."""
        stored = await tx.fetch_value(_NEAREST, tx.tenant, session_id, upto)
        return None if stored is None else _digest(json.loads(stored))

    async def add(self, tx: Transaction, session_id: str, digest: Digest) -> None:
        """Keep a digest; the session names its newest."""
        await tx.run(_ADD, tx.tenant, session_id, digest.upto, as_text(digest))

    async def briefs(
        self, tx: Transaction, session_id: str, *, after: int, upto: int, limit: int
    ) -> Sequence[Brief]:
        """Return messages as far as a digest needs them, oldest first."""
        rows = await tx.fetch(
            _BRIEFS,
            tx.tenant,
            session_id,
            after,
            upto,
            limit,
            READ_CHARACTERS,
            LONGEST_PATH,
            list(FILE_ARGUMENTS),
        )
        return [
            Brief(
                row["sequence"],
                row["role"],
                row["text"],
                tuple(row["tools"]),
                tuple(row["files"]),
                tuple(row["failed"]),
                row["time"],
            )
            for row in rows
        ]

    async def report(self, tx: Transaction, turn_id: str, step: int) -> TurnContext | None:
        """Return what went into the prompt of a step."""
        row = await tx.fetch_one(_REPORT, tx.tenant, turn_id, step)
        if row is None:
            return None
        report = _report(json.loads(row["context"]))
        return TurnContext(turn_id, row["step"], report, row["input_tokens"])


def _digest(stored: dict[str, Any]) -> Digest:
    """Read a digest; what later versions add has its default in older ones."""
    known = {one.name for one in fields(Digest)}
    plain = {name: value for name, value in stored.items() if name in known}
    parts: dict[str, Any] = {
        "entries": tuple(
            Entry(**{**entry, "tools": tuple(entry["tools"])}) for entry in stored["entries"]
        ),
        "statements": tuple(Statement(**one) for one in stored["statements"]),
        "tools": tuple(ToolCount(**one) for one in stored["tools"]),
        "files": tuple(stored["files"]),
    }
    return Digest(**{**plain, **parts})


def _report(stored: dict[str, Any]) -> Report:
    return Report(
        **{
            **stored,
            "strategy": Strategy(stored["strategy"]),
            "sections": tuple(map(_section, stored["sections"])),
        }
    )


def _section(stored: dict[str, Any]) -> Section:
    return Section(
        **{
            **stored,
            "state": SectionState(stored["state"]),
            "memories": tuple(MemorySource(**one) for one in stored["memories"]),
        }
    )
