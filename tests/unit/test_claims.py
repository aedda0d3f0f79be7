"""The tests that docs/tested.md names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = sorted(set(re.findall(r"`(tests/[^`]+)`", (ROOT / "docs" / "tested.md").read_text())))


@pytest.mark.parametrize("named", NAMED)
def test_test_that_backs_a_claim_exists(named: str) -> None:
    path, _, test = named.partition("::")
    assert (ROOT / path).exists()
    assert not test or f"def {test}(" in (ROOT / path).read_text()


def test_soaks_are_all_named() -> None:
    soaks = {file.name for file in (ROOT / "tests" / "chaos").glob("test_*.py")}
    assert soaks <= {Path(named.partition("::")[0]).name for named in NAMED}
