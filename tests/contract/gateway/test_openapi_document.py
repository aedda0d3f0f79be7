"""The OpenAPI document against the contract."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openapi_spec_validator import validate

from gathering_gateway.convert_contract import read_contract
from gathering_gateway.openapi.convert_document import document


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(document()))
    return found


def operation(openapi: dict[str, Any], verb: str, path: str) -> dict[str, Any]:
    found: dict[str, Any] = openapi["paths"][path][verb]
    return found


def test_document_is_valid(openapi: dict[str, Any]) -> None:
    validate(openapi)


def test_each_route_is_an_operation_and_nothing_else_is(openapi: dict[str, Any]) -> None:
    wanted = {(r.path, r.verb.lower()) for rpc in read_contract().rpcs() for r in rpc.routes}
    assert wanted == {(path, verb) for path, item in openapi["paths"].items() for verb in item}
    ids = [op["operationId"] for item in openapi["paths"].values() for op in item.values()]
    assert len(ids) == len(set(ids))
    text = json.dumps(openapi)
    for hidden in ("ExchangeDelegation", "EventLogService", "SetScopeMembers", "TailRequest"):
        assert hidden not in text


def test_only_public_operations_go_without_a_token(openapi: dict[str, Any]) -> None:
    for rpc in read_contract().rpcs():
        for route in rpc.routes:
            security = operation(openapi, route.verb.lower(), route.path)["security"]
            assert security == ([] if rpc.public else [{"token": []}]), rpc


def test_everything_is_described(openapi: dict[str, Any]) -> None:
    for item in openapi["paths"].values():
        for one in item.values():
            assert one["summary"]
            assert all(p.get("description") for p in one["parameters"]), one["operationId"]


def test_bounds_come_from_the_contract(openapi: dict[str, Any]) -> None:
    body = operation(openapi, "post", "/v1/users")["requestBody"]
    schema = body["content"]["application/json"]["schema"]
    assert body["required"]
    assert schema["required"] == ["email", "password", "role"]
    fields = schema["properties"]
    assert fields["email"]["maxLength"] == 254
    assert fields["email"]["pattern"] == "^(?:[^@\\s]+@[^@\\s]+)$"
    assert (fields["password"]["minLength"], fields["password"]["maxLength"]) == (12, 256)
    assert fields["role"]["$ref"] == "#/components/schemas/gateway.v1.Role"
    query = {p["name"]: p["schema"] for p in operation(openapi, "get", "/v1/users")["parameters"]}
    assert (query["page_size"]["minimum"], query["page_size"]["maximum"]) == (0, 200)


def test_path_parameters_leave_the_body(openapi: dict[str, Any]) -> None:
    revoke = operation(openapi, "post", "/v1/api-keys/{api_key_id}:revoke")
    (parameter,) = revoke["parameters"]
    assert (parameter["name"], parameter["in"], parameter["required"]) == (
        "api_key_id", "path", True
    )  # fmt: skip
    assert parameter["schema"]["pattern"] == "^(?:key_[0-9a-f]{32})$"
    schema = revoke["requestBody"]["content"]["application/json"]["schema"]
    assert "api_key_id" not in schema["properties"]


def test_json_forms_are_those_of_the_edge(openapi: dict[str, Any]) -> None:
    schemas = openapi["components"]["schemas"]
    event = schemas["events.v1.Event"]["properties"]
    assert (event["position"]["type"], event["position"]["format"]) == ("string", "int64")
    assert event["commit_time"]["format"] == "date-time"
    assert schemas["gateway.v1.Role"]["enum"][1] == "ROLE_ADMIN"
    query = {p["name"] for p in operation(openapi, "get", "/v1/events")["parameters"]}
    assert query == {
        "filter.types", "filter.subject_ids", "filter.sources", "cursor", "page_size"
    }  # fmt: skip


def test_streams_are_lines_or_events(openapi: dict[str, Any]) -> None:
    answer = operation(openapi, "get", "/v1/events:subscribe")["responses"]["200"]
    assert set(answer["content"]) == {"application/json", "text/event-stream"}


def test_refusals_are_told_by_status_in_one_shape(openapi: dict[str, Any]) -> None:
    always = {"200", "400", "401", "429", "503", "default"}
    update = operation(openapi, "patch", "/v1/agents/{agent_id}")["responses"]
    assert set(update) == {*always, "403", "404", "409", "413"}
    assert set(operation(openapi, "get", "/v1/me")["responses"]) == {*always, "403"}
    assert "403" not in operation(openapi, "post", "/v1/auth/login")["responses"]
    for status in set(update) - {"200"}:
        name = update[status]["$ref"].removeprefix("#/components/responses/")
        content = openapi["components"]["responses"][name]["content"]
        reference = content["application/json"]["schema"]["$ref"]
        assert reference == "#/components/schemas/google.rpc.Status"
