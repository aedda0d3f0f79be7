"""Turn text into the terms that are stored and looked for.

Words of any script, case folded, accents dropped, stems for English (other languages keep their
words, as the rules of English hardly fit them). Chinese, Japanese and Thai, which do not part words
by spaces, become pairs of characters. Names in code are found whole and by their parts. Frequent
words are not removed: their weight follows from how often they stand in the searched scopes.
"""

from __future__ import annotations

import asyncio
import re
import threading
import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

import snowballstemmer

LONGEST_TERM = 64  # characters; what is longer is cut, so that an index entry stays small
_CACHED_STEMS = 65_536

_ACCENTS = re.compile("[\u0300-\u036f]")
# Scripts without spaces: Thai to Khmer, kana, CJK ideographs with their extensions.
_UNSPACED = "\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
# Letters, digits and _, with the vowel signs of India's scripts, Hebrew and Arabic, which Python
# does not count as such; apostrophes inside.
_LETTER = f"(?:(?![{_UNSPACED}])[\\w\u0591-\u05c7\u064b-\u065f\u0900-\u0963\u0966-\u0dff])"
_RUN = re.compile(f"[{_UNSPACED}]+|{_LETTER}+(?:['\u2019]{_LETTER}+)*")
# createTask, HTTPServer, snake_case, utf8
_PARTS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+|[^\W\d_A-Za-z]+")

# Its `stemWord` keeps state between two steps.
_stemmer = snowballstemmer.stemmer("english")
_one_at_a_time = threading.Lock()
_LONG = 2_000  # characters; a millisecond


def terms(text: str) -> Iterator[str]:
    """Yield the terms of a text in their order, repeated as they are."""
    plain = _ACCENTS.sub("", unicodedata.normalize("NFKD", text))
    for found in _RUN.finditer(unicodedata.normalize("NFC", plain)):
        yield from _terms_of(found.group())


def frequencies(text: str) -> dict[str, int]:
    """Return how often each term stands in a text."""
    return dict(Counter(terms(text)))


async def counted(text: str) -> dict[str, int]:
    """Return the frequencies of a text; of a long one without holding up the event loop."""
    if len(text) <= _LONG:
        return frequencies(text)
    return await asyncio.to_thread(frequencies, text)


def _terms_of(run: str) -> Iterator[str]:
    if _is_unspaced(run):
        yield from _pairs(run)
    elif _is_name(run):
        yield from _names(run)
    else:
        yield _stem(run.casefold().replace("\u2019", "'")[:LONGEST_TERM])


def _names(run: str) -> Iterator[str]:
    parts = _PARTS.findall(run)
    whole = run.strip("_").casefold()
    if whole:  # stemmed as a word would be: iPhone is found by iphone
        yield _stem(whole[:LONGEST_TERM]) if whole.isalpha() else whole[:LONGEST_TERM]
    if len(parts) > 1:
        for part in parts:
            yield _stem(part.casefold()[:LONGEST_TERM])


def _is_name(run: str) -> bool:
    """Tell the names in code, which have parts, from words."""
    if "_" in run or any(character.isdigit() for character in run):
        return True
    return run[1:] != run[1:].lower() and not run.isupper()


def _is_unspaced(run: str) -> bool:
    return bool(re.match(f"[{_UNSPACED}]", run))


def _pairs(run: str) -> Iterator[str]:
    if len(run) == 1:
        yield run
    for place in range(len(run) - 1):
        yield run[place : place + 2]


@lru_cache(maxsize=_CACHED_STEMS)
def _stem(word: str) -> str:
    with _one_at_a_time:
        stem: str = _stemmer.stemWord(word)
    return stem or word
