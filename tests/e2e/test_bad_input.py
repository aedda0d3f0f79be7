"""Bad input is refused in words that name the field; it never becomes a fault of ours."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.field_mask_pb2 import FieldMask

from gathering.agent.v1 import agent_pb2, agent_service_pb2
from gathering.gateway.v1 import event_service_pb2
from gathering_mesh.options import field_bounds
from tests.e2e.makers import SECRET_FILE, Maker, struct
from tests.e2e.recipes import RECIPES
from tests.e2e.rpcs import Answer, Rpc, all_rpcs, is_ours, is_text
from tests.e2e.tenants import Tenant

FOR_USERS = [rpc for rpc in all_rpcs() if rpc.for_users or rpc.rule.public]
EVERY = pytest.mark.parametrize("rpc", FOR_USERS, ids=lambda rpc: rpc.name)
BY_NAME = {rpc.name: rpc for rpc in FOR_USERS}
OURS = {"INTERNAL", "UNKNOWN", "DATA_LOSS", "UNIMPLEMENTED", "UNAVAILABLE", "DEADLINE_EXCEEDED"}
# What a field takes that has a pattern.
GOOD = {"email": "a@b.example", "password": "x" * 12, "path": "/", "sha256": "0" * 64}


def good(field: FieldDescriptor) -> Any:
    """Return a value that a field's bounds allow."""
    bounds = field_bounds(field)
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return None
    if field.type == FieldDescriptor.TYPE_STRING:
        default = f"{bounds.id}_{'0' * 32}" if bounds and bounds.id else "x"
        return GOOD.get(field.name, default)
    if field.type == FieldDescriptor.TYPE_ENUM:
        return 1
    return 1


def fill(message: Any) -> Any:
    """Set what must be set, to values that name nothing."""
    for field in message.DESCRIPTOR.fields:
        bounds = field_bounds(field)
        if not (bounds and bounds.required):
            continue
        if field.full_name == "google.protobuf.FieldMask.paths":
            continue
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            fill(getattr(message, field.name))
            getattr(message, field.name).SetInParent()
        else:
            setattr(message, field.name, good(field))
    return message


def spoiled(rpc: Rpc) -> Iterator[tuple[str, Any]]:
    """Yield requests with one bad field each, and the field's path."""
    for field in rpc.method.input_type.fields:
        if field.type == FieldDescriptor.TYPE_ENUM:
            yield _of_no_such_value(rpc, field)
        bounds = field_bounds(field)
        if bounds is None or field.is_repeated:
            continue
        if bounds.required:
            without = fill(rpc.request())
            without.ClearField(field.name)
            yield field.name, without
        for value in _bad_values(field):
            request = fill(rpc.request())
            setattr(request, field.name, value)
            yield field.name, request


def _of_no_such_value(rpc: Rpc, field: FieldDescriptor) -> tuple[str, Any]:
    """Return a request with a number that its enum does not know, and the path of it."""
    request = fill(rpc.request())
    if field.is_repeated:
        getattr(request, field.name).append(9999)
        return f"{field.name}[0]", request
    setattr(request, field.name, 9999)
    return field.name, request


def _bad_values(field: FieldDescriptor) -> Iterator[Any]:
    bounds = field_bounds(field)
    if bounds is None:
        return
    if bounds.max_chars:
        yield "x" * (bounds.max_chars + 1)
    if bounds.id:
        yield from ("rubbish", f"{bounds.id}_{'0' * 31}", f"xyz_{'0' * 32}", f"{bounds.id}_\n")
    if bounds.HasField("minimum") and field.type != FieldDescriptor.TYPE_MESSAGE:
        yield -1
    if bounds.HasField("maximum"):
        yield int(bounds.maximum) + 1


@EVERY
async def test_field_out_of_bounds_is_named(
    rpc: Rpc, edge: grpc.aio.Channel, tenant: Tenant
) -> None:
    for path, request in spoiled(rpc):
        answer = await rpc.call(edge, request, tenant.headers, timeout=10)
        assert (answer.status, answer.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD"), (
            path,
            answer,
        )
        assert path in answer.fields, answer


NASTY = ("a\0b", "\0", "'; drop table x; --", "\ud7ff\U0010ffff", "\u202e%s%n{}", "../..", "\n")


@EVERY
async def test_nasty_text_is_taken_or_refused_but_breaks_nothing(
    rpc: Rpc, edge: grpc.aio.Channel, tenant: Tenant
) -> None:
    fields = [field for field in rpc.method.input_type.fields if is_text(field)]
    for field in fields:
        for text in NASTY:
            request = fill(rpc.request())
            setattr(request, field.name, text)
            answer = await rpc.call(
                edge, request, tenant.headers, timeout=10, last=lambda message: True
            )
            assert answer.status not in OURS, (field.name, text, answer)


@EVERY
async def test_nested_nasty_text_breaks_nothing(
    rpc: Rpc, maker: Maker, edge: grpc.aio.Channel, tenant: Tenant
) -> None:
    if rpc.name not in RECIPES:
        return
    request = await RECIPES[rpc.name](maker)
    for message in _nested(request):
        for field in message.DESCRIPTOR.fields:
            if not is_text(field):
                continue
            kept = getattr(message, field.name)
            setattr(message, field.name, "nul\0nul")
            answer = await rpc.call(
                edge, request, tenant.headers, timeout=10, last=lambda message: True
            )
            assert answer.status not in OURS, (field.full_name, answer)
            setattr(message, field.name, kept)


def _nested(request: Any) -> Iterator[Any]:
    for field, value in request.ListFields():
        if is_ours(field):
            yield value
            yield from _nested(value)


@EVERY
async def test_page_token_that_is_none_is_refused(
    rpc: Rpc, edge: grpc.aio.Channel, tenant: Tenant
) -> None:
    if "page_token" not in rpc.method.input_type.fields_by_name:
        return
    for token in ("rubbish", "AAAA", "e30=", "e30", "\u00e9", "=" * 8):
        request = fill(rpc.request(page_token=token))
        answer = await rpc.call(edge, request, tenant.headers, timeout=10)
        # A list below a resource may look for the resource first.
        assert answer.reason in {"INVALID_PAGE_TOKEN", "NOT_FOUND"}, (token, answer)


@pytest.mark.parametrize("cursor", ["rubbish", "AAAA", "e30", "\u00e9", "start "])
async def test_cursor_that_is_none_is_refused(
    cursor: str, maker: Maker, edge: grpc.aio.Channel, tenant: Tenant
) -> None:
    for name in ("EventService.Subscribe", "EventService.ListEvents"):
        request = BY_NAME[name].request(cursor=cursor)
        answer = await BY_NAME[name].call(edge, request, tenant.headers, timeout=10)
        assert (answer.status, answer.reason) == ("INVALID_ARGUMENT", "INVALID_CURSOR"), answer
    watch = BY_NAME["TurnService.WatchTurn"]
    request = watch.request(turn_id=await maker.turn(), after=cursor)
    answer = await watch.call(edge, request, tenant.headers, timeout=10)
    assert (answer.status, answer.reason) == ("INVALID_ARGUMENT", "INVALID_CURSOR"), answer


@EVERY
async def test_bytes_that_are_no_message_are_refused(
    rpc: Rpc, edge: grpc.aio.Channel, tenant: Tenant
) -> None:
    bad = [b"\xff\xff\xff", b"\x0a\x05ab"]
    first = rpc.method.input_type.fields_by_number.get(1)
    if first is not None and is_text(first):
        bad.append(b"\x0a\x02\xff\xfe")  # No UTF-8.
    for data in bad:
        answer = await rpc.call(edge, data, tenant.headers, timeout=10)
        assert (answer.status, answer.reason) == ("INVALID_ARGUMENT", "MALFORMED_REQUEST"), answer


async def _refused(
    name: str, request: Any, edge: grpc.aio.Channel, tenant: Tenant, reason: str
) -> Answer:
    answer = await BY_NAME[name].call(edge, request, tenant.headers, timeout=20)
    assert (answer.status, answer.reason) == ("INVALID_ARGUMENT", reason), answer
    return answer


@pytest.mark.parametrize("path", ["nothing", "agent_id", "name.first", "persona.nothing", ""])
async def test_update_mask_that_names_no_field_is_refused(
    path: str, maker: Maker, edge: grpc.aio.Channel, tenant: Tenant
) -> None:
    request = agent_service_pb2.UpdateAgentRequest(
        agent_id=await maker.agent(),
        agent=agent_pb2.Agent(name="x"),
        update_mask=FieldMask(paths=[path]),
    )
    await _refused("AgentService.UpdateAgent", request, edge, tenant, "INVALID_UPDATE_MASK")


async def test_list_that_is_too_long_is_refused(edge: grpc.aio.Channel, tenant: Tenant) -> None:
    request = event_service_pb2.ListEventsRequest(
        filter=event_service_pb2.EventFilter(types=["x"] * 101)
    )
    answer = await _refused("EventService.ListEvents", request, edge, tenant, "INVALID_FIELD")
    assert "filter.types" in answer.fields


@pytest.mark.parametrize(
    "arguments",
    [
        struct(path=math.nan),
        struct(path=math.inf),
        struct(path={"a": [None, {"b": 1}]}),
        struct(path="\0"),
        struct(path=SECRET_FILE, surprise=1),
        struct(),
    ],
)
async def test_arguments_that_do_not_fit_a_tool_are_refused(
    arguments: Any, maker: Maker, edge: grpc.aio.Channel, tenant: Tenant
) -> None:
    request = await maker.tool_call()
    request.arguments.CopyFrom(arguments)
    answer = await BY_NAME["ExecutionService.Execute"].call(edge, request, tenant.headers)
    if answer.status == "OK":  # The schema allows it, the tool does not: a result.
        assert answer.message.error_reason
    else:
        assert answer.reason in {"TOOL_ARGUMENTS_INVALID", "INVALID_FIELD"}, answer


@pytest.mark.parametrize("path", ["../etc/passwd", "/etc/passwd", "a/../../b", "\0", "x" * 999])
async def test_path_out_of_the_workspace_is_refused(
    path: str, maker: Maker, edge: grpc.aio.Channel, tenant: Tenant
) -> None:
    rpc = BY_NAME["WorkspaceService.ReadFile"]
    request = rpc.request(workspace_id=await maker.workspace(), path=path)
    answer = await rpc.call(edge, request, tenant.headers)
    assert answer.status in {"INVALID_ARGUMENT", "FAILED_PRECONDITION", "NOT_FOUND"}, answer
