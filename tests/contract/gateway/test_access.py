"""Who may call what of the gateway, by its own port: walked over the contract."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from gathering.events.v1 import event_log_service_pb2
from gathering.gateway.v1 import auth_pb2, auth_service_pb2, event_service_pb2
from gathering.gateway.v1 import auth_service_pb2 as pb
from gathering_gateway.convert_contract import read_contract
from gathering_gateway.models import ROLE_SCOPES, SCOPES, Role
from gathering_mesh.keys import SigningKey
from gathering_mesh.options import method_rule
from gathering_mesh.tokens import user_claims
from tests.support.gateway import PASSWORD, Gateway, Metadata, bearer, outcome

FILES = (auth_service_pb2, event_service_pb2, event_log_service_pb2)
METHODS: list[MethodDescriptor] = [
    method
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


def called(gateway: Gateway, method: MethodDescriptor, metadata: Metadata) -> Any:
    """Call an RPC with an empty request; of a stream, read the first message."""
    service = method.containing_service
    assert service is not None
    assert method.input_type is not None
    path = f"/{service.full_name}/{method.name}"
    request = GetMessageClass(method.input_type)()
    kinds = gateway.channel
    kind: Any = kinds.unary_stream if method.server_streaming else kinds.unary_unary
    call = kind(path, request_serializer=lambda m: m.SerializeToString())(
        request, metadata=metadata, timeout=20
    )
    return call.read() if method.server_streaming else call


def forged(key: SigningKey, **claims: Any) -> str:
    said = user_claims(
        tenant="ten_" + "0" * 32, user="usr_" + "0" * 32, role="admin", scopes=SCOPES, lifetime=900
    )
    return key.sign({**said, **claims})


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
async def test_no_wrong_or_foreign_token_opens_anything_but_what_is_public(
    gateway: Gateway, method: MethodDescriptor
) -> None:
    expired = (await gateway.admin()).access_token
    rule = method_rule(method)
    actor = gateway.actor("agent")
    wrong: dict[str, Metadata] = {
        "none": (),
        "garbage": bearer("abc"),
        "of another key": bearer(forged(SigningKey.generate())),
        "an actor's as a user's": bearer(actor),
        "a user's as an actor's": bearer("", expired),
        "cut": bearer(expired[:-2]),
    }
    for what, metadata in wrong.items():
        reason = await outcome(called(gateway, method, metadata))
        if rule.public:
            assert reason in {"INVALID_FIELD", "OK"}, what
        else:
            assert reason in {"TOKEN_MISSING", "TOKEN_INVALID"}, what


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
async def test_rpcs_of_services_are_refused_to_users(
    gateway: Gateway, method: MethodDescriptor
) -> None:
    tokens = await gateway.admin()
    rule = method_rule(method)
    reason = await outcome(called(gateway, method, bearer(tokens)))
    if rule.public or rule.admits(None):
        assert reason in {"OK", "INVALID_FIELD"}
    else:
        assert reason == "ACTOR_REFUSED"


async def new_user(gateway: Gateway, admin: pb.Tokens, role: int, email: str) -> pb.Tokens:
    request = pb.CreateUserRequest(email=email, password=PASSWORD, role=role)  # type: ignore[arg-type]  # any of them
    await gateway.auth.CreateUser(request, metadata=bearer(admin))
    return await gateway.log_in(email)


async def test_roles_get_their_scopes_and_no_more(gateway: Gateway) -> None:
    admin = await gateway.admin()
    member = await new_user(gateway, admin, auth_pb2.ROLE_MEMBER, "member@example.org")
    viewer = await new_user(gateway, admin, auth_pb2.ROLE_VIEWER, "viewer@example.org")
    for tokens in (member, viewer):
        call = gateway.auth.ListUsers(pb.ListUsersRequest(), metadata=bearer(tokens))
        assert await outcome(call) == "SCOPE_MISSING"
        assert await outcome(gateway.auth.GetMe(pb.GetMeRequest(), metadata=bearer(tokens))) == "OK"


def test_scopes_of_the_contract_are_known_and_admins_have_all() -> None:
    rules = [method_rule(m) for service in read_contract().services for m in service.methods]
    assert {rule.scope for rule in rules if rule.scope} <= SCOPES
    assert ROLE_SCOPES[Role.ADMIN] == SCOPES
    assert not {s for s in ROLE_SCOPES[Role.VIEWER] if s.endswith((".write", ".admin"))}


async def test_unknown_method_is_unimplemented(gateway: Gateway) -> None:
    call: Any = gateway.channel.unary_unary("/gathering.gateway.v1.AuthService/Nothing")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"", timeout=20)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
