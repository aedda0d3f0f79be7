"""Fixtures for all tiers."""

import signal

import pytest

from gathering_mesh import telemetry

pytest_plugins = ["tests.support.fixtures"]


def pytest_configure() -> None:
    """Let interrupts work: a run in the background of a script inherits that they are ignored."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _logs() -> None:
    """Log as in production: structlog's own way draws traces for so long that leases run out."""
    telemetry.configure("test", "info", as_json=True)
