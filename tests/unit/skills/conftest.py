"""A directory to confine, something outside of it, and both ways to open paths."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gathering_skills.confined import kernel
from gathering_skills.confined.root import Root

SECRET = "what nobody may read"


@pytest.fixture
def ground(tmp_path: Path) -> Path:
    """The workspace; beside it stands `outside/secret`."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text(SECRET)
    folder = tmp_path / "ground"
    folder.mkdir()
    return folder


@pytest.fixture(params=["openat2", "part by part"])
def root(request: pytest.FixtureRequest, ground: Path) -> Iterator[Root]:
    """The open workspace, with the kernel's own resolution and without."""
    if request.param == "openat2":
        assert kernel.has_openat2(), "this kernel has no openat2"
        with Root.open(str(ground)) as opened:
            yield opened
        return
    known = kernel.has_openat2
    kernel.has_openat2 = lambda: False  # type: ignore[assignment] # stands for an older kernel
    try:
        with Root.open(str(ground)) as opened:
            yield opened
    finally:
        kernel.has_openat2 = known
