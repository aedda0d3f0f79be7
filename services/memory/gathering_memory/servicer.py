"""MemoryService: convert, call the verb, convert."""

from __future__ import annotations

from dataclasses import dataclass

from gathering.memory.v1 import memory_pb2
from gathering.memory.v1 import memory_service_pb2 as pb
from gathering_memory import convert
from gathering_memory.reading import Reading
from gathering_memory.recalling import Recalling
from gathering_memory.remembering import Remembering
from gathering_mesh.call import Call


@dataclass(frozen=True, slots=True)
class MemoryServicer:
    """Serves `gathering.memory.v1.MemoryService`."""

    remembering: Remembering
    recalling: Recalling
    reading: Reading

    async def Remember(self, request: pb.RememberRequest, call: Call) -> memory_pb2.Memory:
        """Store a memory."""
        draft = convert.draft_of(request)
        return convert.memory_message(await self.remembering.remember(call, draft))

    async def Recall(self, request: pb.RecallRequest, call: Call) -> pb.RecallResponse:
        """Find memories."""
        question = convert.question_of(request)
        return convert.recalled_message(await self.recalling.recall(call, question))

    async def GetMemory(self, request: pb.GetMemoryRequest, call: Call) -> memory_pb2.Memory:
        """Read a memory."""
        return convert.memory_message(await self.reading.get(call, request.memory_id))

    async def ListMemories(
        self, request: pb.ListMemoriesRequest, call: Call
    ) -> pb.ListMemoriesResponse:
        """List memories."""
        listing = convert.listing_of(request)
        return convert.page_message(await self.reading.list(call, listing))

    async def ShareMemory(self, request: pb.ShareMemoryRequest, call: Call) -> memory_pb2.Memory:
        """Copy a memory into another scope."""
        scope = convert.scope_of(request.scope)
        return convert.memory_message(await self.remembering.share(call, request.memory_id, scope))

    async def ForgetMemory(self, request: pb.ForgetMemoryRequest, call: Call) -> memory_pb2.Memory:
        """Delete what a memory says."""
        return convert.memory_message(await self.remembering.forget(call, request.memory_id))
