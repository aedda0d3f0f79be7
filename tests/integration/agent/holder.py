"""A process that holds a place at a provider until it is killed.

`python -m tests.integration.agent.holder URL SYSTEM_URL`; it says `held` when it does.
"""

import asyncio
import sys
from contextlib import AsyncExitStack

from gathering_mesh.postgres import Database, DatabaseSettings
from tests.integration.agent.places import LIMIT, PROVIDER, open_places


async def main(url: str, system_url: str) -> None:
    settings = DatabaseSettings(url, system_url)
    async with (
        Database.open(settings, schema="agent") as db,
        open_places(db) as places,
        AsyncExitStack() as held,
    ):
        for _ in range(LIMIT):
            await held.enter_async_context(places.hold(PROVIDER, 5.0))
        sys.stdout.write("held\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
