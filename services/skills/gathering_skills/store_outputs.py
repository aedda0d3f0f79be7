"""The rows of what tools tell."""

from __future__ import annotations

from collections.abc import Sequence

from gathering_mesh.postgres import Transaction
from gathering_skills.models_outputs import PIECE_BYTES, Piece

_LAST_PLACE = 2**63 - 1
_APPEND = """
insert into skills.outputs (tenant_id, execution_id, attempt, offset_bytes, content, cut)
select $1, $2, $3, * from unnest($4::bigint[], $5::bytea[], $6::boolean[])
on conflict do nothing
"""
_OF = "from skills.outputs where tenant_id = $1 and execution_id = $2"
_AFTER = f"""
select offset_bytes, content, cut {_OF} and attempt = $3
    and offset_bytes > $4::bigint - {PIECE_BYTES} and offset_bytes < $5
order by offset_bytes
"""
_LAST = f"""
select offset_bytes + octet_length(content) as size, cut {_OF} and attempt = $3
order by offset_bytes desc limit 1
"""


class OutputStore:
    """See `ports.OutputRows`."""

    async def append(
        self, tx: Transaction, execution_id: str, attempt: int, pieces: Sequence[Piece]
    ) -> None:
        """Add pieces of an attempt; those that are there already are left."""
        columns = zip(*((one.offset, one.content, one.cut) for one in pieces), strict=True)
        await tx.run(_APPEND, tx.tenant, execution_id, attempt, *map(list, columns))

    async def drop(self, tx: Transaction, execution_id: str) -> None:
        """Delete all that was told of an execution."""
        await tx.run(f"delete {_OF}", tx.tenant, execution_id)

    async def read(
        self, tx: Transaction, execution_id: str, attempt: int, offset: int, limit: int
    ) -> bytes:
        """Return so many bytes of what an attempt told, from an offset on."""
        until = min(offset + limit, _LAST_PLACE)
        rows = await tx.fetch(_AFTER, tx.tenant, execution_id, attempt, offset, until)
        if not rows:
            return b""
        begin = offset - rows[0]["offset_bytes"]
        return b"".join(row["content"] for row in rows)[begin : begin + limit]

    async def size(self, tx: Transaction, execution_id: str, attempt: int) -> tuple[int, bool]:
        """Return how many bytes an attempt told by now, and whether there was more."""
        rows = await tx.fetch(_LAST, tx.tenant, execution_id, attempt)
        return (rows[0]["size"], rows[0]["cut"]) if rows else (0, False)
