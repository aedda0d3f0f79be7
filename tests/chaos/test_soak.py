"""Random kills of everything under load, and the checker: `make soak`.

`SEED=` repeats the order of attacks, `KILLS=` says how many, `REPLICAS=` of how many.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from gathering.skills.v1 import workspace_service_pb2
from gathering_client import Gathering, cast
from tests.chaos.killer import Killer
from tests.chaos.load import Load
from tests.chaos.mesh import ChaosMesh, chaos_mesh, connected
from tests.e2e import codebase

KILLS = int(os.environ.get("KILLS", "500"))
REPLICAS = int(os.environ.get("REPLICAS", "2"))
BETWEEN_CHECKS = 50
_ANSWERS_SECONDS = 300.0


def say(text: str) -> None:
    """Tell people who wait; pytest shows it at once with -s."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def prepared(mesh: ChaosMesh, client: Gathering, chance: random.Random) -> Load:
    """Make a circle in a workspace of its own."""
    folder = codebase.write(mesh.folder.with_name("code"))
    workspace = await client.workspaces.CreateWorkspace(
        workspace_service_pb2.CreateWorkspaceRequest(path=str(folder))
    )
    circle = await cast.gather(client, workspace.workspace_id)
    return Load(client, workspace.workspace_id, circle, folder, chance)


def faults_logged(mesh: ChaosMesh) -> Iterator[str]:
    """Yield what services told their logs of faults of their own; the logs go with the mesh."""
    for log in sorted((mesh.folder / "logs").glob("*.log*")):
        for line in log.read_text(errors="replace").splitlines():
            if '"INTERNAL"' in line:
                yield f"{log.name}: {line[:6000]}"


async def checked(killer: Killer, load: Load) -> None:
    """Let everything come to rest and check all of it."""
    begun = time.monotonic()
    await killer.settle()
    await load.pause(_ANSWERS_SECONDS)
    world = await killer.mesh.expect_quiet()
    wrong = list(load.contradictions(world))
    events = sum(len(schema.logged) for schema in world.schemas.values())
    say(
        f"  {killer.count} kills: {events} events, {dict(sorted(load.ended.items()))},"
        f" answers not given: {dict(load.refused)}, at rest after {time.monotonic() - begun:.0f} s"
    )
    if wrong:
        wrong = [*wrong[:20], *list(faults_logged(killer.mesh))[:5]]
    assert not wrong, "\n".join(wrong)
    load.go_on()


@pytest.mark.timeout(4 * 3600)
async def test_all_invariants_hold_after_many_random_kills() -> None:
    seed = os.environ.get("SEED") or secrets.token_hex(4)
    say(f"\nsoak: SEED={seed} KILLS={KILLS} REPLICAS={REPLICAS}")
    begun = time.monotonic()
    with chaos_mesh(REPLICAS) as mesh:
        async with connected(mesh) as client:
            load = await prepared(mesh, client, random.Random(f"{seed} load"))  # noqa: S311 - repeatable
            killer = Killer(mesh, random.Random(f"{seed} kills"))  # noqa: S311 - repeatable
            checks = 0
            running = asyncio.create_task(load.run())
            try:
                while killer.count < KILLS:
                    await killer.attack()
                    if killer.count // BETWEEN_CHECKS > checks:
                        await checked(killer, load)
                        checks += 1
                await checked(killer, load)
            finally:
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running
    say(
        f"soak: SEED={seed}: {killer.count} kills in {time.monotonic() - begun:.0f} s, all"
        f" invariants hold; {killer.freezes} processes frozen; {dict(killer.kills.most_common())}"
    )
