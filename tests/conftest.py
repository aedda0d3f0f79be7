"""Fixtures for all tiers."""

pytest_plugins = ["tests.support.fixtures"]
