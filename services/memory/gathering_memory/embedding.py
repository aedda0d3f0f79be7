"""Give a memory its vector: work that outlives the request and the process."""

from __future__ import annotations

from dataclasses import dataclass

from gathering_memory.ports import Embedder, Embeddings
from gathering_mesh.lease import Lease
from gathering_mesh.postgres import Database


@dataclass(frozen=True, slots=True)
class Embedding:
    """What is done for each due piece of work of the kind EMBED."""

    db: Database
    embeddings: Embeddings
    embedder: Embedder

    async def embed(self, lease: Lease) -> None:
        """Embed a memory; the vector is stored only while the lease is held."""
        async with self.db.transaction(lease.tenant) as tx:
            text = await self.embeddings.missing(tx, lease.id)
        vector = await self.embedder.document(text) if text is not None else None
        async with lease.transaction() as tx:
            if vector is not None:
                await self.embeddings.keep(tx, lease.id, vector)
            await lease.done(tx)
