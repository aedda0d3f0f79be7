"""The rows of delegations: one per session and token that it was made with."""

from __future__ import annotations

from gathering_agent.models import Right
from gathering_mesh.postgres import Transaction

_GET = """
select delegation_id, replaced from agent.delegations
where tenant_id = $1 and session_id = $2 and root = $3
"""
# Two who ask at once have the same one: it is made under a name that they share.
_KEEP = """
insert into agent.delegations as d (tenant_id, session_id, root, delegation_id, replaced)
values ($1, $2, $3, $4, $5)
on conflict (tenant_id, session_id, root) do update set delegation_id = excluded.delegation_id
where d.replaced = excluded.replaced
"""
_DROP = """
update agent.delegations set delegation_id = '', replaced = replaced + 1
where tenant_id = $1 and session_id = $2 and root = $3 and delegation_id = $4
"""


class RightStore:
    """See `ports.RightRows`."""

    async def get(self, tx: Transaction, session_id: str, root: str) -> Right:
        """Return a session's right, without a delegation where there is none."""
        row = await tx.fetch_one(_GET, tx.tenant, session_id, root)
        if row is None:
            return Right(session_id, root)
        return Right(session_id, root, row["delegation_id"], row["replaced"])

    async def keep(self, tx: Transaction, right: Right) -> None:
        """Remember a right."""
        await tx.run(
            _KEEP, tx.tenant, right.session_id, right.root, right.delegation_id, right.replaced
        )

    async def drop(self, tx: Transaction, right: Right) -> None:
        """Forget a right that has ended, so that the next one has a name of its own."""
        await tx.run(_DROP, tx.tenant, right.session_id, right.root, right.delegation_id)
