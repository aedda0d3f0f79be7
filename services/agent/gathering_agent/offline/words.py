"""Words of a request: stems to compare, and the things that are named in it."""

from __future__ import annotations

import re
from collections.abc import Iterable

_WORD = re.compile(r"[A-Za-z][a-z]+|[A-Z]+(?![a-z])|[a-z]+|\d+")
_ENDINGS = (("ies", "y"), ("sses", "ss"), ("ing", ""), ("ed", ""), ("ity", ""), ("s", ""))
_LEAST_STEM = 4
_COMMON = 5  # letters that two words share at their beginning to count as the same
_EMPTY = (
    "a an and any are as at be by can could do does for from give has have here how i in into is "
    "it its list me my of on one or our please say says show so some tell that the their them "
    "there these this those to us was we were what where which who why will with would you your all"
)
STOP = frozenset(_EMPTY.split())
QUOTED = re.compile(r"`([^`\n]+)`|\"([^\"\n]+)\"|“([^”\n]+)”|(?<!\w)'([^'\n]+)'(?!\w)")
_GLOB = re.compile(r"(?<![\w`\"'])[\w./*?\[\]-]*[*?][\w./*?\[\]-]*")
_PATH = re.compile(
    r"(?<![\w/.@:-])(?:\.{1,2}/)?(?:[\w.-]+/)*[\w-][\w.-]*\.[A-Za-z][A-Za-z0-9]{0,9}\b(?!\()"
)
_FOLDER = re.compile(r"(?<![\w/.:-])(?:[\w.-]+/)+(?:[\w.-]+)?(?![\w/])")
_NUMBER = re.compile(r"(?<![\w.:-])\d+(?![\w:-]|\.\w)")
_HOST = re.compile(r"^(?:e\.g|i\.e|etc)\.?$")


LONGEST = 8_000  # characters of a text that rules look at; expressions over all would take long


def stems(text: str) -> list[str]:
    """Return the words of a text, cut to what stays the same, without the empty ones."""
    words = (word.lower() for word in _WORD.findall(text.replace("_", " ")))
    return [stem(word) for word in words if word not in STOP]


def stem(word: str) -> str:
    """Return a word without its ending."""
    for ending, instead in _ENDINGS:
        if word.endswith(ending) and not word.endswith("ss"):
            cut = word[: -len(ending)] + instead
            if len(cut) >= _LEAST_STEM:
                return cut
    return word


def alike(one: str, other: str) -> bool:
    """Tell whether two stems mean the same word."""
    if one == other:
        return True
    shared = min(len(one), len(other))
    return shared >= _COMMON and one[:shared] == other[:shared]


def overlap(wanted: Iterable[str], offered: Iterable[str]) -> set[str]:
    """Return those of the wanted stems that are among the offered."""
    there = set(offered)
    return {word for word in wanted if any(alike(word, other) for other in there)}


def quoted(text: str) -> list[str]:
    """Return what stands in quotes or backquotes."""
    return [next(filter(None, found)) for found in QUOTED.findall(text)]


def globs(text: str) -> list[str]:
    """Return patterns of file names, such as `*.py`; a question mark at a word's end is none."""
    found = (match.rstrip("?.,") if match.endswith("?") else match for match in _GLOB.findall(text))
    return [one for one in found if re.search(r"[*?]", one) and len(one) > 1]


def paths(text: str) -> list[str]:
    """Return names of files with an extension, each once, in order."""
    found = [match.rstrip(".") for match in _PATH.findall(text)]
    return list(dict.fromkeys(one for one in found if not _HOST.match(one)))


def folders(text: str) -> list[str]:
    """Return names of folders, that is with a slash; files are none."""
    named = set(paths(text))
    found = (one.rstrip("/.") for one in _FOLDER.findall(text))
    return list(dict.fromkeys(one for one in found if one and one not in named))


def numbers(text: str) -> list[int]:
    """Return whole numbers that stand alone."""
    return [int(found) for found in _NUMBER.findall(text)]


def plural(count: int, word: str) -> str:
    """Return `1 finding`, `2 findings`."""
    many = word[:-1] + "ies" if word.endswith("y") else word + "s"
    return f"{count} {word if count == 1 else many}"
