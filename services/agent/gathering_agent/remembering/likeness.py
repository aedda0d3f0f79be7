"""Whether something is known already, or takes the place of what is known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gathering_agent.remembering.models import Finding, KnownMemory

_WORD = re.compile(r"[^\W_]+(?:['.+#-]*[^\W_]+)*[+#]*", re.UNICODE)
# What says nothing by itself. Negations are not among them: they turn a sentence round.
_EMPTY = """
a an and are as at be been by do does for from had has have i in is it its me my of on or our please
remember said so than that the their them there they this to us user was we were will with you your
going now actually no correction over rather really very just all also
"""
_NEGATIONS = frozenset(
    {"not", "never", "don't", "doesn't", "isn't", "aren't", "won't", "cannot", "can't", "longer"}
)
_SILENT = frozenset(_EMPTY.split())
_PREFIX = re.compile(r"^the user said: ", re.IGNORECASE)
_SHORT = 3  # letters of a word that has no plural
_CORRECTED = 0.5  # of the words of a correction that what it corrects has too
_SHARED = 2  # words at least
_FULLER = 0.6  # of the words of a fuller version that the shorter one has


@dataclass(frozen=True, slots=True)
class Judged:
    """What to do with a finding: nothing where it is known; else it is stored, perhaps in place."""

    known: bool
    replaces: str = ""


def judged(finding: Finding, memories: Sequence[KnownMemory]) -> Judged:
    """Compare a finding with the memories that are most like it, best first."""
    new = words(finding.said)
    olds = [(memory, words(memory.text)) for memory in memories]
    for memory, old in olds:
        # What one user's memory says is not known where the agent works for another.
        reaches = finding.personal or not memory.personal
        if reaches and _within(new, old):
            return Judged(known=True)
    for memory, old in olds:
        comparable = memory.personal == finding.personal and memory.automatic
        if comparable and _takes_place(finding, new, memory, old):
            return Judged(known=False, replaces=memory.memory_id)
    return Judged(known=False)


def _takes_place(
    finding: Finding, new: Sequence[str], memory: KnownMemory, old: Sequence[str]
) -> bool:
    if memory.is_about(finding.about):
        return True
    shared = len(set(new) & set(old))
    if finding.corrects and shared >= max(_SHARED, _CORRECTED * len(set(new))):
        return True
    return _within(old, new) and len(old) >= _FULLER * len(new)


def _within(part: Sequence[str], whole: Sequence[str]) -> bool:
    """Tell whether one says nothing that the other does not say, in the same order."""
    rest = iter(whole)
    turned = _NEGATIONS.intersection(part) != _NEGATIONS.intersection(whole)
    return bool(part) and not turned and all(word in rest for word in part)


def words(text: str) -> list[str]:
    """Return the words that say something, in their order and without endings of plurals."""
    found = _WORD.findall(_PREFIX.sub("", text).casefold())
    return [_stem(word) for word in found if word not in _SILENT]


def _stem(word: str) -> str:
    plural = len(word) > _SHORT and word.endswith("s") and not word.endswith("ss")
    return word[:-1] if plural else word
