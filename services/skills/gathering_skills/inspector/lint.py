"""Lint Python with ruff."""

from __future__ import annotations

import re
from collections import Counter

from gathering_skills.inspector.pages import clipped, page, rest, whole
from gathering_skills.inspector.ruff import Finding, Ruff
from gathering_skills.inspector.task import Answer, Task, counted, sentence

# Ruff's own categories, most serious first; what cannot be parsed stands before them all.
_ORDER = ("correctness", "security", "suspicious", "performance", "complexity")
_WHY = re.compile(r"## Why is this bad\?\s+(.*?)(?:\n\s*\n|\Z)", re.DOTALL)
_WHY_CHARS = 300
_MESSAGE_CHARS = 400
_TOTALS = 60


def run(task: Task) -> Answer:
    """Return findings, most serious first, and how many there are of each rule."""
    wanted = task.arguments
    options = ["--select", ",".join(wanted["rules"])]
    if wanted["ignore"]:
        options += ["--ignore", ",".join(wanted["ignore"])]
    ruff = Ruff(task, options)
    findings = ruff.findings()
    rules = ruff.rules() if findings else {}
    counts = Counter(finding["code"] for finding in findings)
    findings.sort(key=lambda finding: _place(finding, rules, counts))
    told = [_told(finding) for finding in findings]
    for one in told:
        task.tell("{path}:{line}:{column}: {rule} {message}\n".format_map(one))
    chosen, following = page(told, wanted["offset"], wanted["limit"])
    more = rest(wanted["offset"], len(chosen), len(findings), "findings", following)
    return {
        "python_file_count": ruff.python_file_count,
        "finding_count": len(findings),
        "rule_count": len(counts),
        "totals": _totals(findings, rules, counts),
        "findings": chosen,
        "next_offset": following,
        "rules": wanted["rules"],
        "ignore": wanted["ignore"],
        "command": ruff.command,
        "ruff_version": ruff.version(),
        "skipped_file_count": ruff.tour.skipped_count,
        "message": sentence(
            _said(ruff, findings, counts), more, whole(cut=following > 0), *ruff.tour.remarks()
        ),
    }


def _place(
    finding: Finding, rules: dict[str, Finding], counts: Counter[str]
) -> tuple[int, int, str, str, int, int]:
    """Sort the serious before the rest, and rare rules before those that stand everywhere."""
    category = rules.get(finding["code"], {}).get("category", "")
    if finding["code"] not in rules:
        weight = -1
    else:
        weight = _ORDER.index(category) if category in _ORDER else len(_ORDER)
    at = finding["location"]
    code = finding["code"]
    return weight, counts[code], code, finding["filename"], at["row"], at["column"]


def _told(finding: Finding) -> Answer:
    return {
        "path": finding["filename"],
        "line": finding["location"]["row"],
        "column": finding["location"]["column"],
        "rule": finding["code"],
        "name": finding.get("name") or "",
        "message": clipped(finding["message"], _MESSAGE_CHARS),
    }


def _totals(
    findings: list[Finding], rules: dict[str, Finding], counts: Counter[str]
) -> list[Answer]:
    names = {finding["code"]: finding.get("name") or "" for finding in findings}
    totals = [
        {
            "rule": code,
            "name": names[code],
            "count": count,
            "category": rules.get(code, {}).get("category", ""),
            "why": _why(rules.get(code, {})),
        }
        for code, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]
    return totals[:_TOTALS]


def _why(rule: Finding) -> str:
    found = _WHY.search(rule.get("explanation", ""))
    return clipped(" ".join(found[1].split()), _WHY_CHARS) if found else ""


def _said(ruff: Ruff, findings: list[Finding], counts: Counter[str]) -> str:
    if not ruff.python_file_count:
        return ruff.tour.without_python("lint")
    return (
        f"{counted(len(findings), 'finding')} of {counted(len(counts), 'rule')} in "
        f"{counted(ruff.python_file_count, 'Python file')}."
    )
