"""Measure how complex Python functions are: McCabe's number, as ruff's rule C901 counts it."""

from __future__ import annotations

import re

from gathering_skills.inspector.pages import page, rest, whole
from gathering_skills.inspector.ruff import Finding, Ruff
from gathering_skills.inspector.sizes import broken as remark
from gathering_skills.inspector.task import Answer, Task, counted, sentence

_MESSAGE = re.compile(r"`(.+)` is too complex \((\d+) > \d+\)")
_SELECT = ("--select", "C901", "--config")


def run(task: Task) -> Answer:
    """Return the functions above a threshold, most complex first."""
    wanted = task.arguments
    ruff = Ruff(task, [*_SELECT, "lint.mccabe.max-complexity=0"])
    findings = ruff.findings()
    functions = sorted(
        filter(None, map(_function, findings)),
        key=lambda f: (-f["complexity"], f["path"], f["line"]),
    )
    over = [f for f in functions if f["complexity"] > wanted["threshold"]]
    for one in over:
        task.tell("{path}:{line}: {name} {complexity}\n".format_map(one))
    broken = {f["filename"] for f in findings if f["code"] != "C901"}
    chosen, following = page(over, wanted["offset"], wanted["limit"])
    sum_of_all = sum(f["complexity"] for f in functions)
    by_hand = ruff.command.replace("max-complexity=0", f"max-complexity={wanted['threshold']}")
    return {
        "python_file_count": ruff.python_file_count,
        "function_count": len(functions),
        "mean": round(sum_of_all / len(functions), 2) if functions else 0.0,
        "highest": functions[0]["complexity"] if functions else 0,
        "threshold": wanted["threshold"],
        "over_threshold_count": len(over),
        "functions": chosen,
        "next_offset": following,
        "command": by_hand,
        "message": sentence(
            _said(ruff, len(functions), len(over), wanted["threshold"]),
            remark(len(broken)),
            rest(wanted["offset"], len(chosen), len(over), "functions", following),
            whole(cut=following > 0),
            *ruff.tour.remarks(),
        ),
    }


def _function(finding: Finding) -> Answer | None:
    found = _MESSAGE.search(finding["message"])
    if finding["code"] != "C901" or found is None:
        return None
    return {
        "path": finding["filename"],
        "line": finding["location"]["row"],
        "name": found[1],
        "complexity": int(found[2]),
    }


def _said(ruff: Ruff, functions: int, over: int, threshold: int) -> str:
    if not ruff.python_file_count:
        return ruff.tour.without_python("measure")
    return (
        f"A complexity above {threshold} have {over} of {counted(functions, 'function')} in "
        f"{counted(ruff.python_file_count, 'Python file')}."
    )
