"""The rows of attempts at model calls."""

from __future__ import annotations

from gathering_agent.models_dialogue import Attempt
from gathering_mesh.postgres import Transaction

_ADD = """
insert into agent.model_attempts (tenant_id, turn_id, step, generation, model, error_reason,
    input_tokens, output_tokens, estimated, end_time)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, clock_timestamp())
on conflict (tenant_id, turn_id, step, generation) do nothing
"""
_COUNT = """
update agent.turns set failed_calls = failed_calls + 1, failed_tokens = failed_tokens + $3
where tenant_id = $1 and id = $2
"""


class AttemptStore:
    """See `ports.AttemptRows`."""

    async def add(self, tx: Transaction, turn_id: str, attempt: Attempt) -> None:
        """Record an attempt, once; the turn counts those that came to nothing."""
        added = await tx.run(
            _ADD,
            tx.tenant,
            turn_id,
            attempt.step,
            attempt.generation,
            attempt.model,
            attempt.error_reason,
            attempt.input_tokens,
            attempt.output_tokens,
            attempt.estimated,
        )
        if added and attempt.error_reason:
            await tx.run(_COUNT, tx.tenant, turn_id, attempt.tokens)
