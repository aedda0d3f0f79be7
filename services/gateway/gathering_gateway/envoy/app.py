"""Compose the edge's configuration from settings and contract."""

from __future__ import annotations

import json
import os
from pathlib import Path

from gathering_gateway.convert_contract import read_contract
from gathering_gateway.envoy.configuration import configuration
from gathering_gateway.envoy.models import Config, EdgeSettings


def render(settings: EdgeSettings) -> Config:
    """Return Envoy's configuration; its JSON is a file that `envoy -c` takes."""
    contract = read_contract()
    return configuration(settings, contract.rpcs(), contract.transcoder_set())


def write(settings: EdgeSettings, out: Path) -> None:
    """Write the configuration to a file in one step."""
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    temporary.write_text(json.dumps(render(settings), indent=1))
    temporary.replace(out)
