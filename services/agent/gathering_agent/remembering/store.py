"""The rows of what was found worth remembering: there from when it was found until it is stored."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from gathering_agent.remembering.models import Finding
from gathering_mesh.postgres import Transaction

_GET = "select found::text from agent.findings where tenant_id = $1 and turn_id = $2"
_PUT = "insert into agent.findings (tenant_id, turn_id, found) values ($1, $2, $3::text::jsonb)"
_DROP = "delete from agent.findings where tenant_id = $1 and turn_id = $2"


class FindingStore:
    """See `context.ports.FindingRows`."""

    async def get(self, tx: Transaction, turn_id: str) -> list[Finding] | None:
        """Return what was found of a turn; None: nobody has looked."""
        stored = await tx.fetch_value(_GET, tx.tenant, turn_id)
        return None if stored is None else [Finding(**one) for one in json.loads(stored)]

    async def put(self, tx: Transaction, turn_id: str, findings: Sequence[Finding]) -> None:
        """Keep what was found of a turn."""
        await tx.run(_PUT, tx.tenant, turn_id, json.dumps([asdict(one) for one in findings]))

    async def drop(self, tx: Transaction, turn_id: str) -> None:
        """Forget what was found of a turn."""
        await tx.run(_DROP, tx.tenant, turn_id)
