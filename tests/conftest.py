"""Fixtures for all tiers."""

import pytest

from gathering_mesh import telemetry

pytest_plugins = ["tests.support.fixtures"]


@pytest.fixture(autouse=True)
def _logs() -> None:
    """Log as in production: structlog's own way draws traces for so long that leases run out."""
    telemetry.configure("test", "info", as_json=True)
