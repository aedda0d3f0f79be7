"""The table of what each provider is tested for has no hole, and stands in the documentation."""

from __future__ import annotations

from pathlib import Path

import tests.contract.agent.test_provider_failures
import tests.contract.agent.test_provider_suite  # noqa: F401 (they fill the table)
from tests.support.providers.matrix import ABSENT, CELLS, COVERED, PROVIDERS, table

_PAGE = Path("docs/providers.md")


def test_every_cell_is_covered_or_says_why_it_does_not_apply() -> None:
    cells = {(provider, cell) for provider in PROVIDERS for cell in CELLS}
    assert cells - set(COVERED) == set(ABSENT)
    assert set(COVERED) <= cells


def test_documentation_has_the_table_of_the_tests() -> None:
    assert table() in _PAGE.read_text(encoding="utf-8"), f"put this into {_PAGE}:\n{table()}"
