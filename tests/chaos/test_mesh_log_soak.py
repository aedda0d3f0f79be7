"""The log under many kills: minutes of what the integration tests do for seconds."""

import pytest

from gathering_mesh.postgres import Database
from tests.integration.mesh.conftest import database_settings
from tests.support.fixtures import NewDatabase
from tests.support.killing import kill_and_compare


@pytest.mark.timeout(900)
async def test_log_is_whole_after_many_kills(new_database: NewDatabase) -> None:
    probe = await new_database("probe")
    async with Database.open(database_settings(probe), schema="probe") as db:
        await kill_and_compare(db, probe, kills=15, between=1500)
