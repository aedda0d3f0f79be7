"""The mesh that is measured: started by the command, with one user who is logged in."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message

from gathering.agent.v1 import agent_pb2, agent_service_pb2, session_pb2, session_service_pb2
from gathering.gateway.v1 import auth_pb2, auth_service_pb2
from gathering_local.addresses import free_port
from gathering_local.supervisor import PartStatus
from tests.e2e.mesh import LocalMesh

OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
)
AGENT = "/gathering.agent.v1.AgentService"
SESSION = "/gathering.agent.v1.SessionService"
AUTH = "/gathering.gateway.v1.AuthService"
_TIMEOUT = 120.0
Raw = Callable[[bytes], Awaitable[bytes]]


@contextmanager
def running(
    environment: Mapping[str, str] | None = None, replicas: int = 1
) -> Iterator[tuple[LocalMesh, float]]:
    """Start a mesh over a folder of its own; yield it and the seconds until it was ready."""
    with tempfile.TemporaryDirectory(prefix="gathering-bench-") as folder:
        Path(folder).chmod(0o711)  # PostgreSQL runs as another user when we are root.
        mesh = LocalMesh(Path(folder) / "home", free_port())
        try:
            begun = time.monotonic()
            start(mesh, replicas, environment)
            yield mesh, time.monotonic() - begun
        finally:
            mesh.down()


def start(mesh: LocalMesh, replicas: int, environment: Mapping[str, str] | None = None) -> None:
    """Run `gathering up`; RuntimeError with what it said where it fails."""
    arguments = ("up", "--port", str(mesh.port), "--replicas", str(replicas))
    ended = mesh.command(*arguments, environment=environment)
    if ended.code:
        raise RuntimeError(f"{ended.out}\n{ended.err}")


@dataclass
class System:
    """The mesh and a channel through its edge."""

    mesh: LocalMesh
    channel: grpc.aio.Channel
    provider: str = ""  # address of the local provider of models
    _user: auth_pb2.User | None = None
    _token: str = ""
    _good_until: float = 0.0
    _agents: dict[str, str] = field(default_factory=dict)

    @property
    def edge(self) -> str:
        """The edge's address."""
        return f"127.0.0.1:{self.mesh.port}"

    def pids(self, *parts: str) -> list[int]:
        """Return the processes of these parts, of all without any, PostgreSQL's children too."""
        found = [each for each in self.mesh.status.parts if not parts or _is(each, parts)]
        return [pid for each in found for pid in family(each.pid)]

    async def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what a call carries: a token that is good for some minutes."""
        if time.monotonic() > self._good_until:
            email, password = self.mesh.admin
            request = auth_service_pb2.LoginRequest(email=email, password=password)
            login = raw(self.channel, f"{AUTH}/Login")
            tokens = auth_service_pb2.Tokens.FromString(await login(request.SerializeToString()))
            self._token, self._user = tokens.access_token, tokens.user
            self._good_until = time.monotonic() + 120  # of 300: streams outlive it
        return (("authorization", f"Bearer {self._token}"),)

    async def tenant(self) -> str:
        """Return the tenant's id."""
        return (await self._logged_in()).tenant_id

    async def user(self) -> str:
        """Return the user's id."""
        return (await self._logged_in()).user_id

    async def _logged_in(self) -> auth_pb2.User:
        await self.metadata()
        assert self._user is not None
        return self._user

    async def call(self, path: str, request: Message, answer: type[Any]) -> Any:
        """Call an RPC through the edge."""
        send = raw(self.channel, path, await self.metadata())
        return answer.FromString(await send(request.SerializeToString()))

    async def sessions(self, count: int, model: str = "offline") -> list[str]:
        """Return new sessions of an agent with this model."""
        if model not in self._agents:
            persona = agent_pb2.Persona(role="helper", base_prompt="Answer shortly.")
            agent = agent_pb2.Agent(name=f"bench {model}", persona=persona, model=model)
            request = agent_service_pb2.CreateAgentRequest(agent=agent)
            made = await self.call(f"{AGENT}/CreateAgent", request, agent_pb2.Agent)
            self._agents[model] = made.agent_id
        asked = session_service_pb2.CreateSessionRequest(agent_id=self._agents[model])
        path = f"{SESSION}/CreateSession"
        return [
            (await self.call(path, asked, session_pb2.Session)).session_id for _ in range(count)
        ]


def raw(channel: grpc.aio.Channel, path: str, metadata: Sequence[tuple[str, str]] = ()) -> Raw:
    """Return an RPC that takes and gives bytes: the load's side converts nothing."""
    rpc: Any = channel.unary_unary(path)

    async def send(request: bytes) -> bytes:
        answer: bytes = await rpc(request, metadata=tuple(metadata), timeout=_TIMEOUT)
        return answer

    return send


def same(send: Raw, request: bytes) -> Callable[[int], Awaitable[bytes]]:
    """Return the work that sends the same request each time."""

    def work(_: int) -> Awaitable[bytes]:
        return send(request)

    return work


def opened(address: str) -> grpc.aio.Channel:
    """Return a channel with a connection of its own."""
    return grpc.aio.insecure_channel(address, options=OPTIONS)


def _is(part: PartStatus, wanted: Sequence[str]) -> bool:
    return part.name in wanted or part.name.rpartition("-")[0] in wanted


def family(pid: int) -> list[int]:
    """Return a process and its children."""
    everything = (int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit())
    return [pid, *(each for each in everything if _parent(each) == pid)]


def _parent(pid: int) -> int:
    try:
        fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[1])
