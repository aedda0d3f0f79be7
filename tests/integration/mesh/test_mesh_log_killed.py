"""Two processes of one log, sixteen writers, kill -9: what was committed is what was logged."""

from gathering_mesh.postgres import Database
from tests.support.killing import kill_and_compare
from tests.support.postgres import TestDatabase


async def test_what_was_committed_is_what_was_logged_whoever_is_killed(
    db: Database, probe: TestDatabase
) -> None:
    await kill_and_compare(db, probe, kills=3, between=400)
