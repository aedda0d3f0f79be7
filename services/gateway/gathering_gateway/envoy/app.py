"""Compose the edge's configuration from settings and contract."""

from __future__ import annotations

import json
import os
from pathlib import Path

from gathering_gateway.convert_contract import read_contract
from gathering_gateway.envoy.configuration import configuration
from gathering_gateway.envoy.models import Config, EdgeSettings
from gathering_gateway.envoy.tls import certificate


def render(settings: EdgeSettings) -> Config:
    """Return Envoy's configuration; its JSON is a file that `envoy -c` takes."""
    contract = read_contract()
    return configuration(settings, contract.rpcs(), contract.transcoder_set())


def write(settings: EdgeSettings, out: Path) -> None:
    """Write the configuration to a file in one step, and beside it what names a certificate."""
    if settings.tls_certificate is not None and settings.tls_key is not None:
        file = settings.tls_file or out.with_suffix(".tls.json").absolute()
        _replace(file, certificate(settings.tls_certificate, settings.tls_key))
        settings = settings.model_copy(update={"tls_file": file})
    _replace(out, render(settings))


def _replace(file: Path, content: Config) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=1))
    temporary.replace(file)
