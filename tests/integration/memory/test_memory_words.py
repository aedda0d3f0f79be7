"""BM25 in the database against its formula, computed by hand."""

from __future__ import annotations

import math
import random

import pytest

from gathering_memory import store_search
from gathering_memory.models import Reach
from gathering_memory.models_tuning import COMMON, K1, B
from gathering_memory.ranking import term_weights
from gathering_memory.store_search import SearchStages
from gathering_memory.words import frequencies, terms
from gathering_mesh.ids import new_id
from tests.integration.memory.callers import CIRCLE, TENANT, Service, scope

WORDS = (
    *("anchor", "boat", "captain", "deck", "engine", "flag", "galley", "harbour", "island"),
    *("the", "a", "of"),
)


def _bm25(texts: list[str], query: str) -> list[float]:
    """Return the scores of texts, straight from the formula."""
    counts = [frequencies(text) for text in texts]
    lengths = [sum(count.values()) for count in counts]
    average = sum(lengths) / len(lengths)
    scores = [0.0] * len(texts)
    for term in set(terms(query)):
        containing = sum(term in count for count in counts)
        idf = math.log(1 + (len(texts) - containing + 0.5) / (containing + 0.5))
        for place, count in enumerate(counts):
            tf = count.get(term, 0)
            norm = K1 * (1 - B + B * lengths[place] / average)
            scores[place] += idf * tf * (K1 + 1) / (tf + norm)
    return scores


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_scores_of_the_store_are_those_of_bm25(words_only: Service, seed: int) -> None:
    chosen = random.Random(seed)  # noqa: S311 - words of a test
    texts = list(
        {" ".join(chosen.choices(WORDS, k=chosen.randint(1, 30))): None for _ in range(40)}
    )
    ada = words_only.caller()
    circle = scope(CIRCLE, new_id("crc"))
    await ada.set_members(circle, 1, ada.user)
    stored = {}
    for place, text in enumerate(texts):  # frequencies are those of both scopes together
        kind = (TENANT, CIRCLE)[place % 2]
        memory = await ada.remember(text, kind, circle.id if kind == CIRCLE else "")
        stored[memory.memory_id] = place
    query = " ".join(chosen.sample(WORDS, 5))
    reach, stages = Reach(("tenant/", f"circle/{circle.id}")), SearchStages()
    async with words_only.app.db.transaction(ada.tenant) as tx:
        size, pending = await stages.size(tx, reach)
        containing = await stages.containing(tx, reach, list(set(terms(query))), COMMON)
        found = await stages.by_words(tx, reach, term_weights(size, containing), size)
    assert (size.document_count, pending) == (len(texts), len(texts))
    expected = _bm25(texts, query)
    assert {stored[memory_id] for memory_id in found} == {
        place for place, score in enumerate(expected) if score
    }
    for memory_id, score in found.items():
        assert score == pytest.approx(expected[stored[memory_id]])


async def test_only_the_postings_of_the_terms_are_read(words_only: Service) -> None:
    """Also where the planner knows nothing of the table, as in a database that is young."""
    ada = words_only.caller()
    for number in range(30):
        await ada.remember(f"Number {number} of a text with some more words", TENANT)
    async with words_only.app.db.transaction(ada.tenant) as tx:
        plan = await tx.fetch(
            f"explain {store_search._WORDS}",
            *(tx.tenant, ["tenant/"], [], "", [], ["number", "text"], [1.0, 1.0], K1, B, 9.0, 100),
        )
    lines = [str(row["QUERY PLAN"]) for row in plan]
    conditions = [line for line in lines if "Index Cond" in line]
    assert len(conditions) == 1
    assert all(column in conditions[0] for column in ("tenant_id", "scope_key", "term"))
