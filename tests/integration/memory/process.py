"""The service as a process of its own that first remembers what its arguments say.

`python -m tests.integration.memory.process <url> <system url> <models> <text>...`
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from gathering_memory.app import compose
from gathering_memory.models import Draft, Scope, ScopeKind
from gathering_memory.provider_minilm import MiniLmEmbedder
from gathering_memory.remembering import Remembering
from gathering_memory.store import MemoryTable
from gathering_memory.store_members import MembershipTable
from gathering_memory.store_writes import MemoryWrites, ShareTable
from gathering_mesh.call import Call, Principal
from gathering_mesh.postgres import Database, DatabaseSettings
from gathering_mesh.server import GrpcServer
from gathering_mesh.settings import ServerSettings
from tests.integration.memory.callers import Issuer


async def main(url: str, system_url: str, models: str, *texts: str) -> None:
    """Remember, then embed until killed."""
    principal = Principal("ten_kill", "usr_kill", frozenset({"memory.write"}), "member")
    call = Call(principal, "Remember")
    async with Database.open(DatabaseSettings(url, system_url), schema="memory") as db:
        verbs = Remembering(db, MemoryTable(), MemoryWrites(), ShareTable(), MembershipTable())
        for text in texts:
            await verbs.remember(call, Draft(text, Scope(ScopeKind.PRIVATE)))
        server = GrpcServer(ServerSettings(), Issuer().authenticator())
        await compose(server, db, MiniLmEmbedder(Path(models))).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
