"""What tests of serving share."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
import structlog

from gathering_mesh import telemetry


@pytest.fixture(autouse=True)
def log() -> Iterator[io.StringIO]:
    """Take what is logged."""
    out = io.StringIO()
    telemetry.configure("probe", "debug", as_json=True, stream=out)
    yield out
    structlog.reset_defaults()
