"""Who may call what: each kind of rule against each kind of caller, through a real port."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from gathering_mesh.client import peer
from gathering_mesh.errors import DomainError, PermissionDenied
from gathering_mesh.keys import SigningKey, keys_at, keys_of, read_actors
from gathering_mesh.server import GrpcServer
from gathering_mesh.settings import ServerSettings
from gathering_mesh.tokens import Authenticator
from tests.support.probe import Authority, Running, headers, request, running

ALLOWED = "allowed"


async def outcome(run: Running, rpc: str, **tokens: str | None) -> str:
    """Return ALLOWED or the reason of the refusal."""
    try:
        with peer("probe"):
            await run.unary(rpc)(request(), metadata=headers(**tokens), timeout=20)
    except DomainError as error:
        return error.reason
    return ALLOWED


MATRIX = {
    # caller:            Echo, Open, Inside, ByAgent, ByUserOrAgent
    "nobody": ("TOKEN_MISSING", ALLOWED, "TOKEN_MISSING", "TOKEN_MISSING", "TOKEN_MISSING"),
    "user": (ALLOWED, ALLOWED, "ACTOR_REFUSED", "ACTOR_REFUSED", ALLOWED),
    "user_without_scope": (
        "SCOPE_MISSING",
        ALLOWED,
        "ACTOR_REFUSED",
        "ACTOR_REFUSED",
        "SCOPE_MISSING",
    ),
    "expired_user": (
        "TOKEN_EXPIRED",
        ALLOWED,
        "TOKEN_EXPIRED",
        "TOKEN_EXPIRED",
        "TOKEN_EXPIRED",
    ),
    "agent_alone": ("TOKEN_MISSING", ALLOWED, ALLOWED, "TOKEN_MISSING", "TOKEN_MISSING"),
    "agent_for_user": (ALLOWED, ALLOWED, ALLOWED, ALLOWED, ALLOWED),
    "skills_for_user": (ALLOWED, ALLOWED, "ACTOR_REFUSED", "ACTOR_REFUSED", "ACTOR_REFUSED"),
    "skills_alone": ("TOKEN_MISSING", ALLOWED, "ACTOR_REFUSED", "TOKEN_MISSING", "TOKEN_MISSING"),
    "agent_without_scope": ("SCOPE_MISSING", ALLOWED, ALLOWED, "SCOPE_MISSING", "SCOPE_MISSING"),
    "agent_for_expired": (
        "TOKEN_EXPIRED",
        ALLOWED,
        "TOKEN_EXPIRED",
        "TOKEN_EXPIRED",
        "TOKEN_EXPIRED",
    ),
    "stranger_for_user": (
        "TOKEN_INVALID",
        ALLOWED,
        "TOKEN_INVALID",
        "TOKEN_INVALID",
        "TOKEN_INVALID",
    ),
}
RPCS = ("Echo", "Open", "Inside", "ByAgent", "ByUserOrAgent")


def callers(authority: Authority) -> dict[str, dict[str, str | None]]:
    """Return the tokens of each kind of caller."""
    good, expired = authority.user(), authority.user(lifetime=-60)
    stranger = Authority().actor()
    return {
        "nobody": {},
        "user": {"user": good},
        "user_without_scope": {"user": authority.user("probe.write")},
        "expired_user": {"user": expired},
        "agent_alone": {"actor": authority.actor()},
        "agent_for_user": {"user": good, "actor": authority.actor()},
        "skills_for_user": {"user": good, "actor": authority.actor("skills")},
        "skills_alone": {"actor": authority.actor("skills")},
        "agent_without_scope": {"user": good, "actor": authority.actor(scopes="other")},
        "agent_for_expired": {"user": expired, "actor": authority.actor()},
        "stranger_for_user": {"user": good, "actor": stranger},
    }


async def test_every_kind_of_caller_meets_every_kind_of_rule() -> None:
    async with running() as run:
        found = {
            caller: tuple([await outcome(run, rpc, **tokens) for rpc in RPCS])
            for caller, tokens in callers(run.authority).items()
        }
    # An actor without the scope, with the user's: the scope is looked at where a rule names one.
    assert found == MATRIX


async def test_handler_sees_the_caller_of_each_kind() -> None:
    async with running() as run:
        good = run.authority.user()
        await run.echo(rpc="Open", user=good)
        await run.echo(rpc="Inside", actor=run.authority.actor())
        await run.echo(rpc="Echo", user=good, actor=run.authority.actor())
        opened, inside, echoed = (call.principal for call in run.probe.calls)
    assert (opened.user, opened.token, opened.actor) == ("", "", None)
    assert (inside.user, inside.tenant, inside.actor) == ("", "", "agent")
    assert (echoed.token, echoed.actor) == (good, "agent")


async def test_stream_is_refused_without_a_token_before_its_first_message() -> None:
    async with running() as run:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await run.watch()(request(), timeout=20).read()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert not run.probe.calls


async def test_internal_stream_that_names_no_services_is_still_not_for_users() -> None:
    async with running() as run:
        follow = run.watch("Follow")
        for_service = headers(actor=run.authority.actor("skills"))
        assert (await follow(request(), metadata=for_service, timeout=20).read()).text == "0"
        with pytest.raises(PermissionDenied) as caught, peer("probe"):
            metadata = headers(user=run.authority.user())
            await follow(request(), metadata=metadata, timeout=20).read()
    assert caught.value.reason == "ACTOR_REFUSED"


async def test_health_needs_no_token_and_knows_each_service() -> None:
    async with running() as run:
        health = health_pb2_grpc.HealthStub(run.channel)
        for name in ("", *run.server.services):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name), timeout=20)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        await run.server.not_ready()
        answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=20)
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert await run.echo(), "calls are taken until the stop"


async def test_reflection_answers_known_callers_only() -> None:
    async with running() as run:
        reflect = reflection_pb2_grpc.ServerReflectionStub(run.channel)
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await reflect.ServerReflectionInfo(iter([ask]), timeout=20).read()
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        known = headers(user=run.authority.user())
        answer = await reflect.ServerReflectionInfo(iter([ask]), metadata=known, timeout=20).read()
    names = {service.name for service in answer.list_services_response.service}
    assert "tests.probe.v1.ProbeService" in names


@asynccontextmanager
async def jwks_server(authority: Authority, asked: list[str]) -> AsyncIterator[str]:
    """Serve the keys of users' tokens over HTTP and yield the URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        body = json.dumps(authority.jwks()).encode()
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n"
            + f"content-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks.json"


async def test_rotated_keys_are_taken_up_from_the_url_without_a_restart() -> None:
    authority, asked = Authority(), list[str]()
    async with jwks_server(authority, asked) as url:
        users = keys_at(url, minimum_interval=0)
        actors = keys_of(lambda: read_actors(authority.actors_document()))
        authenticator = Authenticator(users, actors)
        async with running(authority, authenticator) as run:
            old = authority.user()
            await run.echo(user=old)
            await run.echo(user=old)
            assert len(asked) == 1, "known keys are not asked for again"
            authority.user_keys.append(SigningKey.generate())
            await run.echo(user=authority.user())
            await run.echo(user=old)
            assert len(asked) == 2
            authority.user_keys = authority.user_keys[1:]
            assert await outcome(run, "Echo", user=Authority().user()) == "TOKEN_INVALID"
            assert await outcome(run, "Echo", user=old) == "TOKEN_INVALID"
        await authenticator.aclose()


async def test_keys_that_cannot_be_fetched_make_the_service_unavailable_to_users() -> None:
    authority = Authority()
    async with jwks_server(authority, []) as url:
        pass  # nobody listens there any more
    users = keys_at(url)
    authenticator = Authenticator(users, users)
    async with running(authority, authenticator) as run:
        assert await outcome(run, "Echo", user=authority.user()) == "UNAVAILABLE"
        assert await outcome(run, "Open") == ALLOWED
    await authenticator.aclose()


async def test_taken_address_is_refused_and_not_shared() -> None:
    async with running() as run:
        second = GrpcServer(ServerSettings(port=run.server.port), run.authority.authenticator())
        with pytest.raises(OSError, match="cannot listen"):
            await second.start()
        await second.stop(0.1)
