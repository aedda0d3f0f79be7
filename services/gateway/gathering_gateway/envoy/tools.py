"""Routes of gRPC's own services: what tools such as grpcurl and health probes ask for."""

from __future__ import annotations

from collections.abc import Iterator

from gathering_gateway.envoy.limits import by_user
from gathering_gateway.envoy.models import Config, EdgeSettings
from gathering_gateway.envoy.typed import (
    BODY_LIMIT,
    EVENTS,
    JWT,
    LINES,
    PUBLIC_BODY_LIMIT,
    off,
    seconds,
)

HEALTH = "/grpc.health.v1.Health/Check"
REFLECTION = tuple(
    f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    for version in ("v1", "v1alpha")
)
_GATEWAY = "gateway"  # answers for all parts
_REFLECTION_SECONDS = 60.0  # of silence


def tool_routes(settings: EdgeSettings) -> Iterator[Config]:
    """Yield health, which anybody may ask for, and reflection, which needs a token.

    Load balancers probe from few addresses, and a probe that is refused takes the edge away; so
    health is not counted, as `/healthz` is not.
    """
    if _GATEWAY not in settings.parts:
        return
    yield {
        "match": {"path": HEALTH},
        "route": {"cluster": _GATEWAY, "timeout": seconds(settings.unary_seconds)},
        "typed_per_filter_config": off(LINES, EVENTS, JWT),
    }
    for path in REFLECTION:
        yield {
            "match": {"path": path},
            "route": {
                "cluster": _GATEWAY,
                "timeout": "0s",
                "idle_timeout": seconds(_REFLECTION_SECONDS),
            },
            "typed_per_filter_config": {
                **off(LINES, EVENTS, BODY_LIMIT, PUBLIC_BODY_LIMIT),
                **by_user(settings),
            },
        }
