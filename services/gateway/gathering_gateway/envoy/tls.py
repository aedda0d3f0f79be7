"""Encryption to clients, with a certificate that may be replaced while the edge runs.

Envoy watches only what a file tells it, so the certificate is named in one of its own.
"""

from __future__ import annotations

from pathlib import Path

from gathering_gateway.envoy.models import Config, EdgeSettings
from gathering_gateway.envoy.typed import typed

_NAME = "edge"


def tls(settings: EdgeSettings) -> Config:
    """Return the listener's side."""
    source = {"path_config_source": {"path": str(settings.tls_file)}, "resource_api_version": "V3"}
    context = {
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "tls_certificate_sds_secret_configs": [{"name": _NAME, "sds_config": source}],
    }
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": typed(
            "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            common_tls_context=context,
        ),
    }


def certificate(chain: Path, key: Path) -> Config:
    """Return what the file of the certificate holds."""
    pair = {
        "certificate_chain": {"filename": str(chain)},
        "private_key": {"filename": str(key)},
        "watched_directory": {"path": str(chain.parent)},
    }
    secret = typed("extensions.transport_sockets.tls.v3.Secret", name=_NAME, tls_certificate=pair)
    return {"resources": [secret]}
