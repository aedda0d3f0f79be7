"""Read what a reviewer submitted: a judgement, or why it is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gathering_orchestrator.tasks.models import Artifact, CriterionResult, Json, Judgement
from gathering_orchestrator.tasks.models_states import Verdict

_LONGEST_COMMENT = 20_000
_LONGEST_EVIDENCE = 2_000
_NAMED_FILES = 20  # of those that changed; of the others the number


class UnusableResult(Exception):
    """The result is no judgement; the message says why, for the reviewer to do better."""


def judgement(result: Json | None, criteria: Sequence[str]) -> Judgement:
    """Return the judgement in a submitted result; UnusableResult where it is incomplete.

    Every acceptance criterion has to be answered, and an approval with an unmet one contradicts
    itself. The score is the share of criteria that are met; without criteria, whether it approves.
    """
    if result is None:
        raise UnusableResult("nothing was submitted with submit_result")
    verdict = _verdict(result.get("verdict"))
    found = _matched(_criteria(result.get("criteria")), criteria)
    unmet = [one.criterion for one in found if not one.met]
    if verdict is Verdict.APPROVED and unmet:
        raise UnusableResult(f"the verdict is approved although a criterion is not met: {unmet[0]}")
    comment = result.get("comment", "")
    if not isinstance(comment, str):
        raise UnusableResult("comment is no text")
    return Judgement(verdict, _score(verdict, found), storable(comment, _LONGEST_COMMENT), found)


def storable(text: str, longest: int) -> str:
    """Return a text that a model wrote without what the database refuses, and not too long."""
    return text.replace("\0", "")[:longest]


def plain_score(verdict: Verdict) -> float:
    """Return the score of a verdict that names no criteria."""
    return 1.0 if verdict is Verdict.APPROVED else 0.0


def changed_files_note(changed: Sequence[tuple[Artifact, str | None]]) -> str:
    """Say which artifacts are no longer what was handed in; None: the file is gone."""
    if not changed:
        return ""
    lines = [
        f"- {artifact.path}: handed in with sha256 {artifact.sha256}, "
        + (f"now {now}" if now else "now gone")
        for artifact, now in changed[:_NAMED_FILES]
    ]
    if changed[_NAMED_FILES:]:
        lines.append(f"- and {len(changed) - _NAMED_FILES} more")
    return "Changed since they were handed in:\n" + "\n".join(lines)


def _verdict(given: Any) -> Verdict:
    if isinstance(given, str):
        name = given.strip().upper().replace(" ", "_").replace("-", "_")
        if name in Verdict.__members__:
            return Verdict[name]
    raise UnusableResult("verdict is none of approved, changes_requested, rejected")


def _criteria(given: Any) -> list[CriterionResult]:
    if given is None:
        return []
    if not isinstance(given, list):
        raise UnusableResult("criteria is no list")
    return [_criterion(one, number) for number, one in enumerate(given, 1)]


def _criterion(given: Any, number: int) -> CriterionResult:
    if not isinstance(given, dict) or not isinstance(given.get("met"), bool):
        raise UnusableResult(f"criterion {number} does not say whether it is met")
    criterion, evidence = given.get("criterion", ""), given.get("evidence", "")
    if not isinstance(criterion, str) or not isinstance(evidence, str):
        raise UnusableResult(f"criterion {number} or its evidence is no text")
    return CriterionResult(
        storable(criterion, _LONGEST_EVIDENCE), given["met"], storable(evidence, _LONGEST_EVIDENCE)
    )


def _matched(found: list[CriterionResult], criteria: Sequence[str]) -> tuple[CriterionResult, ...]:
    """Return one result per acceptance criterion, in their words; by text, else by place."""
    if not criteria:
        return tuple(found)
    by_text = {_folded(one.criterion): one for one in found}
    if all(_folded(criterion) in by_text for criterion in criteria):
        chosen = [by_text[_folded(criterion)] for criterion in criteria]
    elif len(found) == len(criteria):
        chosen = found
    else:
        raise UnusableResult(f"{len(found)} of {len(criteria)} criteria are answered")
    return tuple(
        CriterionResult(criterion, one.met, one.evidence)
        for criterion, one in zip(criteria, chosen, strict=True)
    )


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()


def _score(verdict: Verdict, criteria: Sequence[CriterionResult]) -> float:
    if not criteria:
        return plain_score(verdict)
    return sum(one.met for one in criteria) / len(criteria)
