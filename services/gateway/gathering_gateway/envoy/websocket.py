"""The route of WebSockets; a token may stand where browsers can put one."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gathering_gateway.envoy.limits import by_user
from gathering_gateway.envoy.models import Config, EdgeSettings
from gathering_gateway.envoy.typed import (
    BODY_LIMIT,
    EVENTS,
    GATEWAY_WEBSOCKETS,
    JWT,
    LINES,
    PUBLIC_BODY_LIMIT,
    off,
)
from gathering_gateway.websocket.models import TOKEN_PREFIX

PATH = "/ws"


def websocket_routes(settings: EdgeSettings) -> Iterator[Config]:
    """Yield what refuses foreign pages, and the route itself."""
    if settings.cors_origins and "*" not in settings.cors_origins:
        yield _foreign_pages(settings)
    yield {
        "match": {"path": PATH},
        "route": {
            "cluster": GATEWAY_WEBSOCKETS,
            "timeout": "0s",
            "idle_timeout": "0s",  # the gateway sends pings, and knows who is idle
            "upgrade_configs": [{"upgrade_type": "websocket"}],
        },
        # Limits of bodies would count what a client sends over its connection's life.
        "typed_per_filter_config": {
            **off(LINES, EVENTS, BODY_LIMIT, PUBLIC_BODY_LIMIT),
            **by_user(settings),
        },
    }


def token_places() -> Config:
    """Return where a token may be, beside the header: a subprotocol or a parameter of the query."""
    return {
        "from_headers": [
            {"name": "authorization", "value_prefix": "Bearer "},
            {"name": "sec-websocket-protocol", "value_prefix": TOKEN_PREFIX},
        ],
        "from_params": ["access_token"],
    }


def _foreign_pages(settings: EdgeSettings) -> Config:
    """Refuse pages of origins that are not named; browsers do not ask before they open one."""
    origins = "|".join(re.escape(origin) for origin in settings.cors_origins)
    foreign = {
        "name": "origin",
        "string_match": {"safe_regex": {"regex": origins}},
        "invert_match": True,
    }
    present = {"name": "origin", "present_match": True}
    return {
        "match": {"path": PATH, "headers": [present, foreign]},
        "direct_response": {"status": 403},
        "typed_per_filter_config": off(LINES, EVENTS, JWT),
    }
