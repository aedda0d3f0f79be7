"""Whether a finding is known, takes the place of a memory, or is new."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gathering_agent.remembering.likeness import Judged, judged
from gathering_agent.remembering.models import Finding, KnownMemory
from gathering_agent.remembering.rules import told

KNOWN, NEW, REPLACES = Judged(known=True), Judged(known=False), Judged(False, "mem_1")


def found(text: str) -> Finding:
    (finding,) = told(text)
    return finding


def memory(text: str, *, automatic: bool = True, personal: bool = True) -> KnownMemory:
    """Return a memory as a finding of this text would have left it."""
    finding = found(text)
    tags = finding.tags if automatic else ()
    return KnownMemory("mem_1", finding.text, tags, personal)


@pytest.mark.parametrize(
    ("new", "old", "verdict"),
    [
        ("I prefer tabs over spaces.", "I prefer tabs over spaces.", KNOWN),
        ("i prefer TABS over spaces!", "I prefer tabs over spaces.", KNOWN),
        ("I prefer tabs.", "I prefer tabs over spaces.", KNOWN),
        ("I prefer spaces over tabs.", "I prefer tabs over spaces.", REPLACES),
        ("I prefer tea over coffee.", "I prefer tabs over spaces.", NEW),
        ("My name is Ada Lovelace.", "My name is Ada.", REPLACES),
        ("Please call me Bea.", "My name is Ada.", REPLACES),
        ("Our deadline is 5 April.", "Our deadline is 3 March.", REPLACES),
        ("Our deadline for the beta is 5 April.", "Our deadline is 3 March.", NEW),
        ("We use Buildkite for deployments.", "We use Jenkins for deployments.", REPLACES),
        ("We use Buildkite for deployments.", "We use Jenkins for tests.", NEW),
        ("We don't use Redis.", "We use Redis.", NEW),
        ("Our database is not MySQL.", "Our database is MySQL.", REPLACES),
        ("We no longer use Redis, we moved to Postgres.", "We use Redis.", NEW),
        ("We switched from Jenkins to Buildkite.", "We switched from Travis to Jenkins.", REPLACES),
        ("I work at Initech.", "I work at Globex.", REPLACES),
        ("I work as a nurse.", "I work at Globex.", NEW),
        (
            "Remember that we meet on Mondays at nine.",
            "Remember that we meet on Mondays.",
            REPLACES,
        ),
        ("Remember that we meet on Tuesdays.", "Remember that we meet on Mondays.", NEW),
    ],
)
def test_finding_is_judged_by_what_is_known(new: str, old: str, verdict: Judged) -> None:
    assert judged(found(new), [memory(old)]) == verdict


def test_what_people_stored_is_known_but_never_replaced() -> None:
    own = memory("My name is Ada.", automatic=False)
    assert judged(found("My name is Ada."), [own]) == KNOWN
    assert judged(found("My name is Bea."), [own]) == NEW
    others = memory("My name is Ada.", personal=False)
    assert judged(found("My name is Bea."), [others]) == NEW


def test_what_one_users_memory_says_is_not_known_to_all() -> None:
    shared = replace(found("I prefer tabs over spaces."), personal=False)
    assert judged(shared, [memory("I prefer tabs over spaces.")]) == NEW
    assert judged(shared, [memory("I prefer tabs over spaces.", personal=False)]) == KNOWN
    own = found("I prefer tabs over spaces.")
    assert judged(own, [memory("I prefer tabs over spaces.", personal=False)]) == KNOWN


def test_nothing_known_is_new() -> None:
    assert judged(found("I prefer tabs over spaces."), []) == NEW
