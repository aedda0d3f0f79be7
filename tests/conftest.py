"""Fixtures for all tiers."""

import signal

import pytest
from hypothesis import settings

from gathering_mesh import telemetry

pytest_plugins = ["tests.support.fixtures"]


# Examples take as long as they do on a machine that is busy with other tests.
settings.register_profile("gathering", deadline=None)
settings.load_profile("gathering")


def pytest_configure() -> None:
    """Let interrupts work: a run in the background of a script inherits that they are ignored."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _logs() -> None:
    """Log as in production: structlog's own way draws traces for so long that leases run out."""
    telemetry.configure("test", "info", as_json=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let workers share the tests file by file; what takes the end-to-end mesh down stays last."""
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))


def _group(item: pytest.Item) -> str:
    path = item.path.as_posix()
    return f"{path} disruptive" if item.get_closest_marker("disruptive") else path
