"""Fixtures for all tiers."""

import os
import signal

import pytest
from hypothesis import settings

from gathering_mesh import telemetry

pytest_plugins = ["tests.support.fixtures"]


# Examples take as long as they do on a machine that is busy with other tests.
settings.register_profile("gathering", deadline=None)
settings.load_profile("gathering")


def pytest_configure() -> None:
    """Make a run in a terminal, in the background of a script and in a worker the same.

    In the background a script's children inherit that interrupts are ignored; a worker has a width
    of a terminal set, to which commands would fold what they print.
    """
    os.environ.pop("COLUMNS", None)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _logs() -> None:
    """Log as in production: structlog's own way draws traces for so long that leases run out."""
    telemetry.configure("test", "info", as_json=True)
