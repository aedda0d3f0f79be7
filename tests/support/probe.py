"""A service of its own for tests of the mesh: its contract, a servicer, a server, an authority.

The contract is compiled when a test asks for it; nothing of it is generated into the tree.
"""

from __future__ import annotations

import asyncio
import functools
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_tools import protoc

from gathering.options.v1 import options_pb2
from gathering_mesh.call import Call
from gathering_mesh.client import peer
from gathering_mesh.errors import DomainError
from gathering_mesh.keys import KeySet, SigningKey, VerifyingKey, keys_of, read_actors, read_jwks
from gathering_mesh.server import GrpcServer
from gathering_mesh.settings import ServerSettings
from gathering_mesh.tokens import ACTOR_HEADER, ActorSigner, Authenticator, user_claims

ROOT = Path(__file__).parents[2]
TENANT = "ten_" + "0" * 32
USER = "usr_" + "0" * 32
SERVICE = "tests.probe.v1.ProbeService"


@functools.cache
def contract() -> FileDescriptor:
    """Compile the contract and return its file."""
    options_pb2.DESCRIPTOR.GetOptions()  # its import puts the options into the pool
    source = Path(__file__).with_name("probe.proto")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "probe.binpb"
        well_known = Path(protoc.__file__).parent / "_proto"
        includes = [f"-I{path}" for path in (source.parent, ROOT / "protos", well_known)]
        code = protoc.main(["protoc", *includes, f"--descriptor_set_out={out}", str(source)])
        assert code == 0
        found = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(found.file[0].SerializeToString())
    return pool.FindFileByName("probe.proto")


def message(name: str) -> type[Any]:
    """Return a message class of the contract."""
    return GetMessageClass(contract().message_types_by_name[name])


def request(**fields: Any) -> Any:
    """Return an EchoRequest that is good unless told otherwise."""
    return message("EchoRequest")(**{"text": "hello", **fields})


def response(text: str) -> Message:
    """Return an EchoResponse."""
    made: Message = message("EchoResponse")(text=text)
    return made


class Authority:
    """Issues users' tokens and knows the services' keys."""

    def __init__(self, scopes: Mapping[str, list[str]] | None = None) -> None:
        self.user_keys = [SigningKey.generate()]
        self.actors = {name: SigningKey.generate() for name in ("agent", "skills")}
        self._caps = scopes or {}

    def jwks(self) -> dict[str, Any]:
        """Return the public keys of users' tokens."""
        return {"keys": [key.public_jwk for key in self.user_keys]}

    def actors_document(self) -> dict[str, Any]:
        """Return the public keys of services."""
        return {
            name: {
                "keys": [key.public_jwk],
                **({"scopes": self._caps[name]} if name in self._caps else {}),
            }
            for name, key in self.actors.items()
        }

    def user(self, scopes: str = "probe.read", lifetime: float = 900, **claims: Any) -> str:
        """Return a user's token; `claims` replace what it says, None takes out."""
        said: dict[str, Any] = user_claims(
            tenant=TENANT,
            user=USER,
            role="member",
            scopes=frozenset(scopes.split()),
            lifetime=lifetime,
        )
        said |= claims
        return self.user_keys[-1].sign({k: v for k, v in said.items() if v is not None})

    def actor(self, name: str = "agent", scopes: str = "*") -> str:
        """Return a service's token."""
        return ActorSigner(name, self.actors[name], frozenset(scopes.split())).token()

    def authenticator(self) -> Authenticator:
        """Return one that takes the keys from here."""

        def users() -> KeySet:
            return read_jwks(self.jwks())

        def actors() -> Mapping[str, VerifyingKey]:
            return read_actors(self.actors_document())

        return Authenticator(keys_of(users), keys_of(actors))


def headers(user: str | None = None, actor: str | None = None) -> tuple[tuple[str, str], ...]:
    """Return the metadata that carries these tokens."""
    pairs = (("authorization", user and f"Bearer {user}"), (ACTOR_HEADER, actor))
    return tuple((key, value) for key, value in pairs if value)


async def _echo(request: Any, call: Call) -> Message:
    return response(request.text)


async def _count(request: Any, call: Call) -> AsyncGenerator[Message, None]:
    for number in range(3):
        yield response(str(number))


@dataclass
class Probe:
    """The servicer; `on_call` and `on_watch` are what a test wants to happen."""

    on_call: Callable[[Any, Call], Awaitable[Message]] = _echo
    on_watch: Callable[[Any, Call], AsyncGenerator[Message, None]] = _count
    calls: list[Call] = field(default_factory=list)

    async def _serve(self, request: Any, call: Call) -> Message:
        self.calls.append(call)
        return await self.on_call(request, call)

    Echo = Open = Inside = ByAgent = ByUserOrAgent = _serve

    async def Watch(self, request: Any, call: Call) -> AsyncGenerator[Message, None]:
        """Stream what the test wants."""
        self.calls.append(call)
        async for answer in self.on_watch(request, call):
            yield answer

    Follow = Watch


@dataclass
class Running:
    """A server with its servicer, and a channel to it."""

    probe: Probe
    server: GrpcServer
    channel: grpc.aio.Channel
    authority: Authority

    def unary(self, rpc: str, *, raw: bool = False) -> Any:
        """Return a unary RPC; `raw` takes bytes instead of a message."""
        return self.channel.unary_unary(
            f"/{SERVICE}/{rpc}",
            request_serializer=bytes if raw else message("EchoRequest").SerializeToString,
            response_deserializer=message("EchoResponse").FromString,
        )

    def watch(self, rpc: str = "Watch") -> Any:
        """Return a streamed RPC."""
        return self.channel.unary_stream(
            f"/{SERVICE}/{rpc}",
            request_serializer=message("EchoRequest").SerializeToString,
            response_deserializer=message("EchoResponse").FromString,
        )

    async def echo(self, what: Any = None, rpc: str = "Echo", **tokens: str | None) -> str:
        """Call an RPC, as the usual user unless tokens are given, and return the text."""
        given = tokens or {"user": self.authority.user()}
        answer = await self.unary(rpc)(
            request() if what is None else what, metadata=headers(**given), timeout=20
        )
        return str(answer.text)


@asynccontextmanager
async def running(
    authority: Authority | None = None, authenticator: Authenticator | None = None, **settings: Any
) -> AsyncIterator[Running]:
    """Serve a probe on a free port."""
    authority = authority or Authority()
    probe = Probe()
    server = GrpcServer(ServerSettings(**settings), authenticator or authority.authenticator())
    server.add(contract().services_by_name["ProbeService"], probe)
    await server.start()
    limit = [("grpc.max_send_message_length", -1), ("grpc.enable_http_proxy", 0)]
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=limit) as channel:
            yield Running(probe, server, channel, authority)
    finally:
        await server.stop(0.2)


async def raised(run: Running, **fields: Any) -> DomainError:
    """Call Echo and return the error that it gives."""
    with pytest.raises(DomainError) as caught, peer("probe"):
        await run.echo(request(**fields))
    return caught.value


def fail(error: BaseException) -> Any:
    """Return a handler that raises."""

    async def handler(_: Any, __: Call) -> Message:
        raise error

    return handler


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for a condition that another task brings about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come about"
        await asyncio.sleep(0.01)
