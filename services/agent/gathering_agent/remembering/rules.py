"""Rules for sentences that are worth remembering, and how much they are worth.

A rule names what it finds, its kind of memory and its importance; what is said for the moment, or
without being sure, is worth less. English alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gathering_agent.remembering.hygiene import gives_orders, is_fit
from gathering_agent.remembering.likeness import words
from gathering_agent.remembering.models import Finding
from gathering_agent.remembering.sentences import statements

TOLD = "The user said: "
_FOR_NOW, _NOT_SURE, _CORRECTED = -0.3, -0.25, 0.1

_NOUNS = (
    r"name|nickname|pronouns|time ?zone|(?:first |native |favou?rite )?language|editor|ide|shell"
    r"|operating system|birthday|employer|company|team|manager|role|job(?: title)?|city|country"
    r"|(?:tech )?stack|database|back ?end|front ?end|repository|repo|(?:main|default) branch"
    r"|deadline|budget|(?:release|launch) date|style guide|conventions?|project|product"
    r"|customers?|domain|cloud provider|package manager"
)
_ROLES = (
    r"(?:developer|engineer|designer|manager|teacher|student|researcher|scientist|doctor|nurse"
    r"|lawyer|analyst|architect|writer|editor|founder|administrator|consultant|accountant|beginner)"
)
# What points at the conversation is not understood later.
_POINTING = (
    r"(?:it|this|that|these|those|them|your|you|how|what|the (?:way|first|second|third|last|other"
    r"|former|latter|one|following|same|above|idea|answer|option)|option|both|neither|to)\b"
)
_ALREADY = (
    r"(?:not |still |now |getting |too |so |very )?(?:broken|failing|slow|down|wrong|weird|ready"
    r"|done|missing|empty|full|huge|late|unclear|confused|to\b)"
)


@dataclass(frozen=True, slots=True)
class Rule:
    """A kind of sentence; `about` makes of its groups what the sentence is an answer to."""

    name: str
    kind: str
    importance: float
    pattern: re.Pattern[str]
    about: str = ""


def _rule(name: str, kind: str, importance: float, pattern: str, about: str = "") -> Rule:
    return Rule(name, kind, importance, re.compile(pattern, re.IGNORECASE), about)


RULES = (
    _rule(
        "asked", "fact", 0.9,
        r"^(?:please,? )?(?:remember|don'?t forget|keep in mind|bear in mind)"
        r"(?: for (?:later|next time|the future))?(?: that\b|:|,)\s*(?P<rest>.+)$",
    ),
    _rule("standing", "preference", 0.85, r"\b(?:from now on|going forward|henceforth)\b"),
    _rule(
        "standing", "preference", 0.75,
        r"^(?:please,? )?(?:always|never) (?!mind\b|ever\b)\w+ \w",
    ),
    _rule(
        "standing", "preference", 0.75,
        r"^(?:please,? )?(?:don'?t|do not|stop) .+ (?:any ?more|again|ever)[.!]?$",
    ),
    _rule("name", "fact", 0.85, r"\bmy name(?:'s| is) (?!not\b)\w", "name"),
    _rule("name", "fact", 0.8, r"\bcall me (?-i:[A-Z])[\w'-]+[.!]?$", "name"),
    _rule(
        "person", "fact", 0.7,
        rf"\bi(?:'m| am) (?:an?|the) (?:[\w-]+ ){{0,3}}{_ROLES}\b", "role",
    ),
    _rule("person", "fact", 0.7, rf"\bi work as (?!{_POINTING})\w", "work as"),
    _rule("person", "fact", 0.7, rf"\bi work (?:at|for) (?!{_POINTING}|the moment)\w", "work at"),
    _rule("person", "fact", 0.7, rf"\bi work in (?!{_POINTING})\w", "work in"),
    _rule("person", "fact", 0.7, rf"\bi live (?:in|at) (?!{_POINTING}|the moment)\w", "live in"),
    _rule(
        "attribute", "fact", 0.7,
        rf"\b(?P<whose>my|our) (?P<noun>{_NOUNS})(?: for (?P<for>[\w ]+?))? (?:is|are|will be) "
        rf"(?!{_ALREADY})\S",
        "{whose} {noun} {for}",
    ),
    _rule(
        "preference", "preference", 0.8,
        rf"\b(?:i|we)(?:'d| would)?(?: (?:strongly|generally|usually|really|much|always))? prefer "
        rf"(?!{_POINTING})(?P<one>.+?) (?:over|to|rather than|instead of|than) "
        r"(?P<other>[^,;:.!]+)",
        "prefer {one} {other}",
    ),
    _rule(
        "preference", "preference", 0.75,
        rf"\b(?:i|we)(?: (?:strongly|generally|usually|really|much|always))? prefer "
        rf"(?!{_POINTING})\w",
    ),
    _rule(
        "preference", "preference", 0.65,
        rf"\b(?:i|we) (?:really |absolutely )?(?:love|hate|dislike|can'?t stand) (?!{_POINTING})\w",
    ),
    _rule("preference", "preference", 0.6, rf"^(?:i|we) (?:really )?like (?!{_POINTING})\w"),
    _rule(
        "decision", "decision", 0.8,
        rf"\b(?:i|we)(?:'ve| have)? (?:decided|agreed|settled) (?:to|on|that|against) "
        rf"(?!{_POINTING}(?! ?\w))\w|\bwe(?:'ve| have) chosen (?!{_POINTING})\w",
    ),
    _rule(
        "decision", "decision", 0.7,
        rf"\bwe(?:'ll| will) (?:use|go with|stick (?:to|with)) (?!{_POINTING})\w"
        rf"|^let'?s (?:go with|stick (?:to|with)) (?!{_POINTING})\w"
        rf"|^the decision is (?!{_POINTING})\w",
    ),
    _rule(
        "use", "fact", 0.75,
        rf"\b(?:i|we|our \w+)(?:'ve| have)? (?:moved|switched|migrated) (?:from .+ )?to "
        rf"(?!{_POINTING})\w",
    ),
    _rule(
        "use", "fact", 0.7,
        rf"\b(?:i|we|our (?:team|company|project|group)) (?:(?:all|now|mostly|usually|only|always"
        rf"|never|don'?t|do not) )?uses? (?!{_POINTING})(?P<what>.+?)"
        rf"(?: (?:for|as) (?P<for>.+?))?[.!]?$",
        "use {for}",
    ),
    _rule(
        "use", "fact", 0.7,
        r"\bwe (?:always |never |only |don'?t |do not )?(?:deploy|release|ship|commit|merge|push) "
        r"(?:to|on|with|from|every|only|directly|through|via)\b",
    ),
    _rule(
        "correction", "fact", 0.6,
        rf"^(?:actually|no|correction)[:,] (?:the|our|my) (?!{_POINTING})[\w -]+ (?:is|are) "
        rf"(?!{_ALREADY})\S",
    ),
)  # fmt: skip
# Each rule needs one of these words.
_TELLING = frozenset(
    {
        "i", "i'm", "i've", "i'd", "my", "we", "we've", "we'd", "we'll", "our", "remember",
        "forget", "mind", "now", "forward", "henceforth", "always", "never", "anymore", "more",
        "again", "ever", "call", "let's", "lets", "decision", "actually", "no", "correction",
    }
)  # fmt: skip
_EDGE = re.compile(r"[^\w']+")
_READ = 20_000  # characters
_CORRECTS = re.compile(
    r"^(?:no|actually|correction|sorry)[:,]|\b(?:no longer|not .+ any ?more|instead of|i meant"
    r"|changed to|(?:moved|switched|migrated) (?:from|to))\b",
    re.IGNORECASE,
)
_MOMENT = re.compile(
    r"\b(?:today|tonight|tomorrow|yesterday|right now|for now|just now|at the moment|currently"
    r"|this (?:time|once|morning|afternoon|evening|week)|temporarily|for this \w+|just this)\b",
    re.IGNORECASE,
)
_UNSURE = re.compile(
    r"\b(?:maybe|perhaps|probably|possibly|might|not sure|i (?:guess|think|suppose|believe)"
    r"|could be|kind of|sort of)\b",
    re.IGNORECASE,
)


def told(text: str) -> Iterator[Finding]:
    """Yield what is worth remembering of a message: each sentence once, by its best rule."""
    seen: set[str] = set()
    text = text.replace("\u2019", "'")
    if not _may_tell(text) or gives_orders(text):
        return
    for sentence in statements(text):
        found = _best(sentence)
        if found is not None and found.said not in seen and is_fit(sentence):
            seen.add(found.said)
            yield found


def _may_tell(text: str) -> bool:
    """Tell whether a rule can fit at all: most messages ask for something, and cost no more."""
    return not _TELLING.isdisjoint(_EDGE.sub(" ", text[:_READ].casefold()).split())


def chosen(findings: Iterable[Finding], *, threshold: float, limit: int) -> list[Finding]:
    """Return the most important ones; of equal ones those that were said first."""
    worthy = [one for one in findings if one.importance >= threshold]
    return sorted(worthy, key=lambda one: -one.importance)[:limit]


def _best(sentence: str) -> Finding | None:
    found = [_finding(rule, match) for rule in RULES if (match := rule.pattern.search(sentence))]
    return max(found, key=lambda one: (one.importance, bool(one.about)), default=None)


def _finding(rule: Rule, match: re.Match[str]) -> Finding:
    sentence = match.string
    groups = {name: value or "" for name, value in match.groupdict().items()}
    said = groups.get("rest") or sentence
    said = said[0].upper() + said[1:]
    corrects = _CORRECTS.search(sentence) is not None
    importance = rule.importance + (_CORRECTED if corrects else 0.0)
    importance += _FOR_NOW if _MOMENT.search(sentence) else 0.0
    importance += _NOT_SURE if _UNSURE.search(sentence) else 0.0
    return Finding(
        text=f"{TOLD}{said}",
        said=said,
        kind=rule.kind,
        importance=round(max(0.0, min(1.0, importance)), 2),
        rule=rule.name,
        about=_about(rule.about, groups),
        corrects=corrects,
    )


def _about(form: str, groups: dict[str, str]) -> str:
    """Return what a sentence is an answer to, the same in whatever order things are compared."""
    if "{for}" in form and not groups.get("for") and "{noun}" not in form:
        return ""
    named = [word for word in form.split() if not word.startswith("{")]
    values = " ".join(value for name, value in groups.items() if f"{{{name}}}" in form)
    return " ".join([*named, *sorted(words(values))])
