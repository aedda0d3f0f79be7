"""Keep one PostgreSQL server for all processes of a test run: `python -m tests.support.keeper DIR`.

Each test process holds a connection to the keeper's socket for as long as it lives. When the last
one closes, also by kill -9, the keeper ends the server and removes the folder.
"""

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path

from gathering_local.postgres import EmbeddedPostgres

SOCKET = "keeper.sock"
# The data of a test need not survive the machine.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
_FIRST_CLIENT_SECONDS = 30.0


async def keep(folder: Path) -> None:
    """Serve until the last client has gone."""
    postgres = EmbeddedPostgres(folder / "postgres", settings=FAST)
    try:
        await postgres.start()
        address = {"port": postgres.port, "password": postgres.superuser_password()}
        await _serve(folder / SOCKET, json.dumps(address).encode() + b"\n")
    finally:
        ended = _set_aside(folder)
        await postgres.stop()
        shutil.rmtree(ended, ignore_errors=True)


def _set_aside(folder: Path) -> Path:
    """Leave the name at once to a process that comes late and starts another keeper."""
    return folder.rename(folder.with_name(f"{folder.name}.ended-{os.getpid()}"))


async def _serve(path: Path, greeting: bytes) -> None:
    clients: set[asyncio.StreamWriter] = set()
    first, none = asyncio.Event(), asyncio.Event()

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        clients.add(writer)
        first.set()
        none.clear()
        writer.write(greeting)
        await reader.read()
        clients.discard(writer)
        writer.close()
        if not clients:
            none.set()

    server = await asyncio.start_unix_server(client, path)
    async with asyncio.timeout(_FIRST_CLIENT_SECONDS):
        await first.wait()
    await none.wait()
    while clients:  # One came before we could leave.
        await none.wait()
    server.close()


if __name__ == "__main__":
    asyncio.run(keep(Path(sys.argv[1])))
