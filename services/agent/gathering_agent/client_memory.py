"""The memory service, as `ports.Memories`."""

from __future__ import annotations

from collections.abc import Sequence

from gathering.memory.v1 import memory_pb2, memory_service_pb2
from gathering.memory.v1.memory_service_pb2_grpc import MemoryServiceStub
from gathering_agent.models import Recalled
from gathering_agent.ports import Note, Work
from gathering_agent.remembering.models import KnownMemory
from gathering_mesh.client import Channels, peer

_SERVICE = "memory"
_OWN = ("private", "personal")  # scopes that an agent's id names
_LONGEST_QUERY = 4_000  # characters


class MemoryClient:
    """Recalls and remembers as an agent, on behalf of the turn's user."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self._stub = MemoryServiceStub(channels.to(_SERVICE))

    async def recall(self, work: Work, query: str, limit: int) -> Sequence[Recalled]:
        """Return what the agent knows that fits, best first."""
        asked = memory_service_pb2.RecallRequest(query=query, agent_id=work.agent_id, limit=limit)
        with peer(_SERVICE):
            answer = await self._stub.Recall(asked, **self._channels.outgoing(work.call))
        return [
            Recalled(
                memory_id=hit.memory.memory_id,
                text=hit.memory.text,
                scope=_scope_name(hit.memory.scope),
                score=round(hit.score, 4),
            )
            for hit in answer.hits
        ]

    async def like(self, work: Work, text: str, limit: int) -> Sequence[KnownMemory]:
        """Return what the agent knows by itself, and of the user, that is most like a text."""
        asked = memory_service_pb2.RecallRequest(
            query=text[:_LONGEST_QUERY],
            agent_id=work.agent_id,
            scopes=[memory_pb2.Scope(kind=_kind(scope), id=work.agent_id) for scope in _OWN],
            limit=limit,
        )
        with peer(_SERVICE):
            answer = await self._stub.Recall(asked, **self._channels.outgoing(work.call))
        return [_known(hit.memory) for hit in answer.hits]

    async def remember(self, work: Work, note: Note) -> str:
        """Store a note once per request id; return the memory's id."""
        scope_id = work.agent_id if note.scope in _OWN else note.scope_id
        asked = memory_service_pb2.RememberRequest(
            request_id=note.request_id,
            text=note.text,
            scope=memory_pb2.Scope(kind=_kind(note.scope), id=scope_id),
            type=memory_pb2.MemoryType.Value(f"MEMORY_TYPE_{note.kind.upper()}"),
            importance=note.importance,
            agent_id=work.agent_id,
            provenance=memory_pb2.Provenance(
                session_id=work.session_id,
                turn_id=work.turn_id,
                task_id=work.task_id,
                source=note.source,
            ),
            supersedes_memory_id=note.supersedes,
            tags=note.tags,
        )
        with peer(_SERVICE):
            memory = await self._stub.Remember(asked, **self._channels.outgoing(work.call))
        return memory.memory_id


def _known(memory: memory_pb2.Memory) -> KnownMemory:
    personal = memory.scope.kind == memory_pb2.SCOPE_KIND_PERSONAL
    return KnownMemory(memory.memory_id, memory.text, tuple(memory.tags), personal)


def _kind(scope: str) -> memory_pb2.ScopeKind.ValueType:
    return memory_pb2.ScopeKind.Value(f"SCOPE_KIND_{scope.upper()}")


def _scope_name(scope: memory_pb2.Scope) -> str:
    return memory_pb2.ScopeKind.Name(scope.kind).removeprefix("SCOPE_KIND_").lower()
