"""Glob patterns over paths."""

from __future__ import annotations

import pytest

from gathering_skills.confined.globs import Glob


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("*.py", "a.py", True),
        ("*.py", "a/b/c.py", True),
        ("src/*.py", "src/a.py", True),
        ("src/*.py", "src/b/a.py", False),
        ("src/**/*.py", "src/a.py", True),
        ("src/**/*.py", "src/b/c/a.py", True),
        ("**", "a/b", True),
        ("docs/**", "docs/a/b.md", True),
        ("docs/**", "docs", True),
        ("docs/", "docs/a", True),
        ("./README.md", "README.md", True),
        ("*.{py,md}", "a/x.md", True),
        ("*.{py,md}", "a/x.txt", False),
        ("test_[ab]?.py", "test_a1.py", True),
        ("*.PY", "a.py", False),
        ("a*/b*/c", "a1/b1/c", True),
        ("**/x/**", "x", True),
    ],
)
def test_pattern_fits_or_not(pattern: str, path: str, fits: bool) -> None:
    assert Glob(pattern).matches(path) is fits


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("REVIEW.md", "REVIEW.md", True),
        ("REVIEW.md", "docs/REVIEW.md", False),
        ("*.md", "docs/x.md", False),
        ("**/*.md", "docs/x.md", True),
        ("docs/*", "docs/a/b", False),
        ("*", "a/b", False),
    ],
)
def test_anchored_pattern_stands_for_whole_paths(pattern: str, path: str, fits: bool) -> None:
    assert Glob(pattern, anchored=True).matches(path) is fits


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*a" * 30 + "b", "a" * 250),
        ("**/" * 40 + "x", "a/" * 1000 + "y"),
        ("{a,b}" * 12, "c"),
        ("{" * 200, "x"),
        ("[" * 100 + "*" * 100, "x" * 200),
    ],
)
def test_pattern_made_to_take_for_ever_does_not(pattern: str, path: str) -> None:
    assert not Glob(pattern).matches(path)
