"""The document: an operation for each route of each RPC."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from gathering_gateway.convert_contract import Contract, read_contract, to_rpc
from gathering_gateway.models_contract import HttpRoute
from gathering_gateway.openapi.convert_errors import (
    STATUS,
    error_responses,
    refusals,
    status_schema,
)
from gathering_gateway.openapi.convert_schemas import WELL_KNOWN, Schema, Schemas
from gathering_mesh.options import field_bounds, message_type, method_rule

_DEEPEST = 3  # messages within a query parameter's name
_DESCRIPTION = """\
Teams of AI agents as a mesh of typed services. The same contract is served as gRPC and gRPC-Web at
the same address.

Every error is a JSON object with `code` (of gRPC), `message` and `details`; the detail `ErrorInfo`
has a stable `reason`. Mutations take a `request_id`: the same id with the same body returns the
first result. Fields that the contract does not know are ignored in bodies and refused in queries.
Streams are one JSON object per line or, with `Accept: text/event-stream`, server-sent events; one
that ends without a last frame was cut and is resumed with the last cursor.
"""


def document(contract: Contract | None = None) -> Schema:
    """Return the OpenAPI document of the contract."""
    contract = contract or read_contract()
    schemas = Schemas(contract.comments)
    paths: dict[str, Schema] = {}
    tags = []
    for service in contract.services:
        operations = [
            (route, _operation(method, route, number, schemas))
            for method in service.methods
            for number, route in enumerate(to_rpc(method).routes)
        ]
        if operations:
            tags.append({"name": service.name, "description": schemas.comment(service.full_name)})
        for route, operation in operations:
            paths.setdefault(route.path, {})[route.verb.lower()] = operation
    schemas.components[STATUS] = status_schema()
    return {
        "openapi": "3.1.0",
        "info": {"title": "Gathering", "version": "v1", "description": _DESCRIPTION},
        "servers": [{"url": "/"}],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.components.items())),
            "responses": error_responses(),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "An access token of `/v1/auth/login` or `/v1/auth/api-key`.",
                }
            },
        },
    }


def _operation(method: MethodDescriptor, route: HttpRoute, number: int, schemas: Schemas) -> Schema:
    service, request = method.containing_service, method.input_type
    assert service is not None  # noqa: S101 (of a linked descriptor)
    assert request is not None  # noqa: S101 (as above)
    text = schemas.comment(method.full_name)
    rule = method_rule(method)
    scope = f"\n\nNeeds the scope `{rule.scope}`." if rule.scope else ""
    operation: Schema = {
        "operationId": f"{service.name}_{method.name}{number or ''}",
        "tags": [service.name],
        "summary": text.partition(".")[0].replace("\n", " "),
        "description": text + scope,
        "parameters": [
            *_path_parameters(request, route, schemas),
            *_query_parameters(request, route, schemas),
        ],
        "responses": {
            "200": _answer(method, schemas),
            **refusals(route, public=rule.public),
        },
        "security": [] if rule.public else [{"token": []}],
    }
    if route.body:
        operation["requestBody"] = _body(request, route, schemas)
    return operation


def _answer(method: MethodDescriptor, schemas: Schemas) -> Schema:
    assert method.output_type is not None  # noqa: S101 (of a linked descriptor)
    text = schemas.comment(method.output_type.full_name) or "The answer."
    schema = schemas.reference(method.output_type)
    if not method.server_streaming:
        return {"description": text, "content": {"application/json": {"schema": schema}}}
    return {
        "description": f"{text}\n\nA stream: each line (or event's `data`) is one such object.",
        "content": {
            "application/json": {"schema": schema},
            "text/event-stream": {"schema": schema},
        },
    }


def _body(message: Descriptor, route: HttpRoute, schemas: Schemas) -> Schema:
    if route.body == "*":
        schema = schemas.message(message, leave_out=route.variables)
        required = "required" in schema
    else:
        field = message.fields_by_name[route.body]
        schema, required = schemas.field(field), True
    return {"required": required, "content": {"application/json": {"schema": schema}}}


def _path_parameters(message: Descriptor, route: HttpRoute, schemas: Schemas) -> Iterator[Schema]:
    for name in route.variables:
        field = _field_at(message, name)
        yield _parameter(name, "path", schemas.field(field), required=True)


def _query_parameters(message: Descriptor, route: HttpRoute, schemas: Schemas) -> Iterator[Schema]:
    if route.body == "*":
        return
    taken = {*route.variables, route.body}
    for name, field in _leaves(message, "", 1):
        if name not in taken and name.partition(".")[0] not in taken:
            bounds = field_bounds(field)
            required = "." not in name and bounds is not None and bounds.required
            yield _parameter(name, "query", schemas.field(field), required=required)


def _leaves(message: Descriptor, prefix: str, depth: int) -> Iterator[tuple[str, FieldDescriptor]]:
    """Yield the fields that a query can set, with dotted names."""
    for field in message.fields:
        name = prefix + field.name
        if field.message_type is None or field.message_type.full_name in WELL_KNOWN:
            yield name, field
        elif not field.is_repeated and depth < _DEEPEST:
            yield from _leaves(message_type(field), f"{name}.", depth + 1)


def _field_at(message: Descriptor, path: str) -> FieldDescriptor:
    first, _, rest = path.partition(".")
    field = message.fields_by_name[first]
    return _field_at(message_type(field), rest) if rest else field


def _parameter(name: str, place: str, schema: Schema, *, required: bool) -> Schema:
    parameter: dict[str, Any] = {"name": name, "in": place, "required": required}
    if "description" in schema:
        parameter["description"] = schema.pop("description")
    return {**parameter, "schema": schema}
