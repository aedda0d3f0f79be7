"""The figures that recall is tuned by, each with its reason.

Chosen on LoCoMo (ten long conversations, 1,534 questions, MiniLM; share of the evidence within the
first ten hits): words alone 0.56, meaning alone 0.45, both added 0.63, with neighbours 0.69. Ranks
instead of scores (RRF) were worse than words alone, so scores are added.
"""

from __future__ import annotations

# BM25 (Robertson and Zaragoza 2009), with the constants that most of its users keep.
K1 = 1.2
B = 0.75
# The rarest terms of a query that are looked up: the others say little and read the most.
QUERY_TERMS = 32
# A term is counted up to here; one that stands in more memories is left to rarer ones, if any.
COMMON = 10_000

# What each stage hands to the fusion. Below 50 the recall falls, above 100 it hardly rises.
CANDIDATES = 100
# Either stage finds what the other misses; parts from 0.4 to 0.6 measured the same.
LEXICAL_WEIGHT = 0.5
VECTOR_WEIGHT = 0.5
# The best hits lend this part of their score to the memories next to them in the same session: an
# answer often stands beside the words of the question.
LENT = 0.6
LENDERS = 50
# The most that age and unimportance take from a score: they order what fits, and fit nothing.
RECENCY_WEIGHT = 0.1
IMPORTANCE_WEIGHT = 0.1
HALF_LIFE_SECONDS = 30 * 86_400.0

# Scopes of up to this many memories are searched exactly: 1 ms for 1,000, 3 for 5,000, 15 to 60 for
# 20,000 (the graph takes 6 to 16 for any size).
EXACT_DOCUMENTS = 20_000
# Larger ones use the graph only where they are at least this part of all that it holds. It knows no
# tenants: of a fifth of it, it finds 0.95 of the best ten; of a hundredth, it may find a tenth.
GRAPH_SHARE = 0.3
