"""The stages of a recall as statements.

Every statement names the tenant and the scopes itself, beside the policy: they are the first
columns of each index, and equality is an operator that row-level security lets use one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from gathering_memory.models import Candidate, Reach, ScopeSize
from gathering_memory.models_tuning import CANDIDATES, EXACT_DOCUMENTS, GRAPH_SHARE, K1, B
from gathering_memory.ports import Vector
from gathering_mesh.postgres import Transaction

_SIZE = """
select coalesce(sum(s.document_count), 0)::bigint as documents,
    coalesce(sum(s.total_length), 0)::bigint as length,
    (select count(*) from memory m where m.tenant_id = $1 and m.scope_key = any($2)
        and m.state = 'active' and not m.embedded) as pending
from scope_stats s where s.tenant_id = $1 and s.scope_key = any($2)
"""
_CONTAINING = """
select q.term, counted.n
from unnest($3::text[]) as q (term)
cross join lateral (
    select count(*) as n from (
        select 1 from posting p
        where p.tenant_id = $1 and p.scope_key = any($2) and p.term = q.term limit $4) found
    ) counted
"""
# $3 types: empty ones do not restrict; of the scopes $5 only the memories of $4 are covered.
# Joined only where a filter is asked for.
_FITS = """
    m.tenant_id = $1 and (cardinality($3::text[]) = 0 or m.type = any($3))
    and (m.owner_user_id = $4 or m.scope_key <> all($5::text[]))
"""
# The offset keeps the planner from joining the other way round, which reads all postings of the
# scopes; it does so where it knows nothing of the table yet.
_SCORED = """
with scored as materialized (
    select p.memory_id,
        sum(q.weight * p.tf * (k.k1 + 1) / (p.tf + k.k1 * (1 - k.b + k.b * p.length / k.average)))
            as score
    from (select $8::float8 as k1, $9::float8 as b, $10::float8 as average) k
    cross join unnest($6::text[], $7::float8[]) as q (term, weight)
    cross join lateral (
        select p.memory_id, p.tf, p.length from posting p
        where p.tenant_id = $1 and p.scope_key = any($2) and p.term = q.term offset 0) p
    group by p.memory_id)
"""
_BEST = "order by s.score desc, s.memory_id desc limit $11"
# A statement knows no unused parameter, so both have the same ones.
_WORDS = f"""
{_SCORED}
select s.memory_id, s.score from scored s
where cardinality($3::text[]) = 0 and $4::text is not null and cardinality($5::text[]) = 0 {_BEST}
"""  # noqa: S608 - of constants
_WORDS_FILTERED = f"""
{_SCORED}
select s.memory_id, s.score from scored s join memory m on m.id = s.memory_id where {_FITS} {_BEST}
"""  # noqa: S608 - of constants

# The sum keeps the planner from the graph: exact, whatever it thinks. (A materialised sub-select
# does as well, but writes the vectors of large scopes to disk.) A sub-select around the question's
# vector has it read once and not for each row.
_EXACT = """
select e.memory_id from embedding e
where e.tenant_id = $1 and e.scope_key = any($2)
order by (e.embedding <=> (select $3::float4[]::vector)) + 0 limit $4
"""
_EXACT_FILTERED = f"""
select e.memory_id from embedding e join memory m on m.id = e.memory_id
where e.tenant_id = $1 and e.scope_key = any($2) and {_FITS}
order by (e.embedding <=> (select $6::float4[]::vector)) + 0 limit $7
"""  # noqa: S608 - of constants
_GRAPH = """
select e.memory_id from embedding e
where e.tenant_id = $1 and e.scope_key = any($2)
order by e.embedding <=> (select $3::float4[]::vector) limit $4
"""
_GRAPH_SETTINGS = """
select set_config('hnsw.iterative_scan', 'relaxed_order', true),
    set_config('hnsw.ef_search', '200', true), set_config('hnsw.max_scan_tuples', '100000', true)
"""
_ALL_VECTORS = "select reltuples::float8 from pg_class where oid = 'embedding'::regclass"

_DETAILS = """
select m.id, m.created_at, m.importance, m.session_id,
    1 - (e.embedding <=> (select $3::float4[]::vector)) as cosine
from memory m left join embedding e on (e.tenant_id, e.memory_id) = (m.tenant_id, m.id)
where m.tenant_id = $1 and m.id = any($2) and m.state = 'active'
"""
_NEXT = """
    (select m.id, m.created_at, m.importance, m.session_id from memory m
    where m.session_id = hit.session_id and m.id {side} hit.id and m.state = 'active'
        and m.scope_key = any($2) and {fits}
    order by m.id {order} limit 1)
"""
_BESIDE = f"""
select hit.id as lender, found.*
from unnest($6::text[], $7::text[]) as hit (id, session_id)
cross join lateral (
    {_NEXT.format(side="<", order="desc", fits=_FITS)}
    union all
    {_NEXT.format(side=">", order="asc", fits=_FITS)}) found
"""  # noqa: S608 - of constants


class SearchStages:
    """The stages of a recall."""

    async def size(self, tx: Transaction, reach: Reach) -> tuple[ScopeSize, int]:
        """Return what the scopes hold, and how many of it waits for its embedding."""
        row = await tx.fetch_one(_SIZE, tx.tenant, list(reach.scope_keys))
        if row is None:
            raise RuntimeError("a sum returned no row")
        return ScopeSize(row["documents"], row["length"]), row["pending"]

    async def containing(
        self, tx: Transaction, reach: Reach, terms: Collection[str], most: int
    ) -> dict[str, int]:
        """Return in how many memories of the scopes each term stands, counted up to `most`."""
        rows = await tx.fetch(_CONTAINING, tx.tenant, list(reach.scope_keys), list(terms), most)
        return {row["term"]: row["n"] for row in rows}

    async def by_words(
        self, tx: Transaction, reach: Reach, weights: Mapping[str, float], size: ScopeSize
    ) -> dict[str, float]:
        """Return the memories with the best BM25 scores."""
        rows = await tx.fetch(
            _WORDS_FILTERED if reach.filtered else _WORDS,
            *_filtered(tx, reach),
            list(weights),
            list(weights.values()),
            K1,
            B,
            size.average_length,
            CANDIDATES,
        )
        return {row["memory_id"]: row["score"] for row in rows}

    async def by_meaning(
        self, tx: Transaction, reach: Reach, vector: Vector, size: ScopeSize
    ) -> list[str]:
        """Return the memories nearest to a vector."""
        near = (vector, CANDIDATES)
        if reach.filtered:
            rows = await tx.fetch(_EXACT_FILTERED, *_filtered(tx, reach), *near)
        else:
            graph = await self._fits_graph(tx, size)
            if graph:
                await tx.fetch_one(_GRAPH_SETTINGS)
            statement = _GRAPH if graph else _EXACT
            rows = await tx.fetch(statement, tx.tenant, list(reach.scope_keys), *near)
        return [row["memory_id"] for row in rows]

    async def _fits_graph(self, tx: Transaction, size: ScopeSize) -> bool:
        if size.document_count <= EXACT_DOCUMENTS:
            return False
        held: float = await tx.fetch_value(_ALL_VECTORS)  # an estimate, below 0 for none
        return held > 0 and size.document_count >= GRAPH_SHARE * held


class CandidateRows:
    """What the fusion needs to know of memories."""

    async def details(
        self,
        tx: Transaction,
        lexical: Mapping[str, float],
        ids: Iterable[str],
        vector: Vector | None,
    ) -> list[Candidate]:
        """Return the active ones among these, with their cosine where a vector is given."""
        wanted = list({*lexical, *ids})
        rows = await tx.fetch(_DETAILS, tx.tenant, wanted, vector)
        return [
            Candidate(
                row["id"],
                row["created_at"],
                row["importance"],
                row["session_id"],
                lexical.get(row["id"]),
                row["cosine"],
            )
            for row in rows
        ]

    async def beside(
        self, tx: Transaction, reach: Reach, lenders: Sequence[Candidate]
    ) -> list[tuple[str, Candidate]]:
        """Return what comes right before and after these in their sessions, with their ids."""
        inside = [lender for lender in lenders if lender.session_id]
        if not inside:
            return []
        rows = await tx.fetch(
            _BESIDE,
            *_filtered(tx, reach),
            [lender.id for lender in inside],
            [lender.session_id for lender in inside],
        )
        return [
            (
                row["lender"],
                Candidate(row["id"], row["created_at"], row["importance"], row["session_id"]),
            )
            for row in rows
        ]


def _filtered(tx: Transaction, reach: Reach) -> tuple[object, ...]:
    keys, types, closed = list(reach.scope_keys), list(reach.types), list(reach.closed)
    return tx.tenant, keys, types, reach.owner, closed
