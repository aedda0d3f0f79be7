"""The order of the tier: what takes longest begins first, so that no worker waits for its end."""

import pytest

# Files whose tests kill processes, or run thousands of cases.
_LONG = ("_kill", "crash", "replicas", "fuzz", "odd_files")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort, keeping files together."""
    items.sort(key=lambda item: not any(word in item.path.name for word in _LONG))
