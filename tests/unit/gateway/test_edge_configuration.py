"""The edge's configuration, walked without running it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from gathering_gateway.convert_contract import read_contract
from gathering_gateway.envoy.app import render
from gathering_gateway.envoy.models import EdgeSettings
from gathering_gateway.envoy.typed import EVENTS, JWT, LINES
from gathering_gateway.models_contract import HttpRoute

PARTS = dict.fromkeys(("agent", "gateway", "memory", "orchestrator", "skills"), "10.0.0.1:7000")


def rendered(**settings: Any) -> dict[str, Any]:
    given = {"parts": PARTS, "gateway_http": "10.0.0.1:8000", **settings}
    found: dict[str, Any] = json.loads(json.dumps(render(EdgeSettings(**given))))
    return found


def host(config: dict[str, Any]) -> dict[str, Any]:
    listener = config["static_resources"]["listeners"][0]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    found: dict[str, Any] = manager["route_config"]["virtual_hosts"][0]
    return found


def is_off(route: dict[str, Any], name: str) -> bool:
    return bool(route["typed_per_filter_config"].get(name, {}).get("disabled", False))


@pytest.fixture(scope="module")
def routes() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = host(rendered())["routes"]
    return found


def test_token_is_asked_for_wherever_a_part_is_reached_unless_the_contract_says_public(
    routes: list[dict[str, Any]],
) -> None:
    public = {rpc.grpc_path for rpc in read_contract().rpcs() if rpc.public}
    public |= {r.path for rpc in read_contract().rpcs() if rpc.public for r in rpc.routes}
    public |= {"/.well-known/jwks.json", "/openapi.json", "/descriptor.binpb"}
    public |= {"/grpc.health.v1.Health/Check"}
    for route in routes:
        if "route" in route and is_off(route, JWT):
            assert route["match"]["path"] in public


def test_rpcs_without_a_path_have_no_route(routes: list[dict[str, Any]]) -> None:
    hidden = [rpc for rpc in read_contract().rpcs() if not rpc.routes]
    assert hidden
    paths = {route["match"].get("path") for route in routes}
    assert not paths & {rpc.grpc_path for rpc in hidden}
    (only,) = [r for r in routes if "prefix" in r["match"] and "route" in r]
    assert only["route"]["cluster"] == "gateway_http", "bodies to be refused, and no part"
    assert not is_off(only, JWT)


def test_streams_have_no_time_and_answers_have_one(routes: list[dict[str, Any]]) -> None:
    streamed = {r.path for rpc in read_contract().rpcs() if rpc.streamed for r in rpc.routes}
    patterns = [r.pattern for rpc in read_contract().rpcs() if rpc.streamed for r in rpc.routes]
    for route in routes:
        match = route["match"]
        if "prefix" in match:
            continue
        if "route" not in route or match.get("path", "").startswith(("/gathering.", "/grpc.")):
            continue
        path = match.get("path") or match["safe_regex"]["regex"]
        if path in streamed or path in patterns or path == "/ws":
            assert (route["route"]["timeout"], route["route"]["idle_timeout"]) == ("0s", "0s")
        else:
            assert route["route"]["timeout"] != "0s", path


def test_one_transcoder_at_most_serves_a_route(routes: list[dict[str, Any]]) -> None:
    for route in routes:
        transcoders = [name for name in (LINES, EVENTS) if not is_off(route, name)]
        leads_to_part = "route" in route and route["route"]["cluster"] in PARTS
        grpc = route["match"].get("path", "").startswith(("/gathering.", "/grpc."))
        assert len(transcoders) == (1 if leads_to_part and not grpc else 0), route["match"]


def test_internal_headers_of_clients_are_dropped() -> None:
    assert "x-gathering-actor" in host(rendered())["request_headers_to_remove"]


def test_part_that_is_left_out_has_no_routes() -> None:
    config = rendered(parts={"gateway": "10.0.0.1:7000"})
    clusters = {c["name"] for c in config["static_resources"]["clusters"]}
    assert clusters == {"gateway", "gateway_http", "gateway_websockets"}
    used = {r["route"]["cluster"] for r in host(config)["routes"] if "route" in r}
    assert used == clusters


def test_admin_listens_on_loopback_or_a_socket_or_not_at_all() -> None:
    assert "admin" not in rendered()
    address = rendered(admin_port=0)["admin"]["address"]["socket_address"]
    assert address == {"address": "127.0.0.1", "port_value": 0}
    assert rendered(admin_socket="/run/a")["admin"]["address"]["pipe"]["path"] == "/run/a"


@pytest.mark.parametrize(
    ("path", "fits", "fits_not"),
    [
        ("/v1/turns/{turn_id}", "/v1/turns/trn_1", "/v1/turns/trn_1:watch"),
        ("/v1/turns/{turn_id}:watch", "/v1/turns/trn_1:watch", "/v1/turns/trn_1"),
        ("/v1/a/{b}/c/{d}", "/v1/a/1/c/2", "/v1/a/1/2/c/2"),
        ("/v1/a.b/{c}", "/v1/a.b/1", "/v1/aXb/1"),
    ],
)
def test_pattern_of_a_path_takes_whole_segments(path: str, fits: str, fits_not: str) -> None:
    pattern = HttpRoute("GET", path, "").pattern
    assert re.fullmatch(pattern, fits)
    assert not re.fullmatch(pattern, fits_not)


def test_no_two_routes_share_verb_and_pattern() -> None:
    found = [(r.verb, r.pattern) for rpc in read_contract().rpcs() for r in rpc.routes]
    assert len(found) == len(set(found))
