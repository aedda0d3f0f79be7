"""Two tenants never see each other: not by any RPC, not by a query without a filter."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from gathering.orchestrator.v1 import circle_service_pb2, task_service_pb2
from gathering_mesh.errors import NotFound
from gathering_mesh.ids import new_id
from gathering_orchestrator.store_tables import metadata
from tests.integration.orchestrator.scripts import Agents, verdict
from tests.integration.orchestrator.test_orchestrator_tasks import watch
from tests.integration.orchestrator.world import Caller, S, World

MESH_TABLES = ("aggregate", "outbox", "log", "idempotency", "work", "parked")


async def busy_tenant(world: World, agents: Agents) -> tuple[Caller, dict[str, Any]]:
    """Return a user whose tenant has a row in every table, and the ids of some."""
    user = world.caller()
    agents.reviews.append(verdict("changes_requested", ["Names lines"]))
    workspace = world.skills.workspace(user.tenant)
    author, critic = user.agent("Author", python=0.9), user.agent("Critic")
    circle = await user.circle(author, critic, workspace_id=workspace)
    made = await user.task(circle.circle_id, required_competences=["python"])
    task = await user.reach(made.task_id, S.TASK_STATE_COMPLETED)
    return user, {
        "circle_id": circle.circle_id,
        "task_id": task.task_id,
        "offer_id": task.offers[0].offer_id,
        "review_id": task.reviews[0].review_id,
        "agent_id": author,
    }


async def test_every_rpc_hides_what_belongs_to_another_tenant(world: World, agents: Agents) -> None:
    _, ids = await busy_tenant(world, agents)
    stranger = world.caller()
    own_agent = stranger.agent("Own")
    more: dict[str, dict[str, Any]] = {
        "UpdateCircle": {"circle": {"name": "A"}, "update_mask": FieldMask(paths=["name"])},
        "AddMember": {"member": {"agent_id": own_agent}},
        "CreateTask": {"title": "A"},
        "SubmitWork": {"summary": "A"},
        "SubmitReview": {"verdict": 1},
    }
    created_or_listed = {"CreateCircle", "ListCircles", "ListTasks", "WatchTask"}
    walked = set()
    for module in (circle_service_pb2, task_service_pb2):
        (service,) = module.DESCRIPTOR.services_by_name.values()
        for method in service.methods:
            if method.name in created_or_listed:
                continue
            fields = {n: ids[n] for n in method.input_type.fields_by_name if n in ids}
            with pytest.raises(NotFound):
                await stranger.call(method.name, **fields, **more.get(method.name, {}))
            walked.add(method.name)
    assert len(walked) == 12
    assert not (await stranger.call("ListTasks", circle_id=ids["circle_id"])).tasks
    assert not (await stranger.call("ListTasks")).tasks
    assert not (await stranger.call("ListCircles")).circles
    with pytest.raises(Exception, match="NOT_FOUND"):
        await watch(stranger, ids["task_id"])


async def test_agents_and_workspaces_of_another_tenant_cannot_be_used(
    world: World, agents: Agents
) -> None:
    user = world.caller()
    stranger = world.caller()
    foreign = user.agent("Foreign")
    with pytest.raises(NotFound):
        await stranger.circle(foreign)
    with pytest.raises(NotFound):
        await stranger.circle(workspace_id=world.skills.workspace(user.tenant))


async def test_query_without_a_filter_returns_nothing_of_another_tenant(
    world: World, agents: Agents
) -> None:
    user, _ = await busy_tenant(world, agents)
    tables = [table.name for table in metadata.sorted_tables]
    assert await _counts(world, user.tenant, tables) == dict.fromkeys(tables, True)
    assert await _counts(world, new_id("ten"), tables) == dict.fromkeys(tables, False)
    assert await _counts(world, "", tables) == dict.fromkeys(tables, False)
    for table in (*tables, *MESH_TABLES):
        row = await world.rows(
            "select relrowsecurity and relforcerowsecurity as bound from pg_class"
            " where oid = $1::text::regclass",
            f"orchestrator.{table}",
        )
        assert row[0]["bound"], table


async def _counts(world: World, tenant: str, tables: list[str]) -> dict[str, bool]:
    """Return which tables show rows to the service's own role in a tenant."""
    connection = await asyncpg.connect(world.database.app("orchestrator"))
    try:
        await connection.execute("select set_config('app.tenant', $1, false)", tenant)
        return {
            table: bool(await connection.fetchval(f"select count(*) from orchestrator.{table}"))  # noqa: S608 - our own names
            for table in tables
        }
    finally:
        await connection.close()


async def test_tables_in_the_code_are_those_of_the_migrations(world: World) -> None:
    for table in metadata.sorted_tables:
        rows = await world.rows(
            "select column_name from information_schema.columns"
            " where table_schema = 'orchestrator' and table_name = $1",
            table.name,
        )
        assert {column.name for column in table.columns} == {r["column_name"] for r in rows}


async def test_database_refuses_a_second_accepted_offer_and_a_review_by_the_author(
    world: World, agents: Agents
) -> None:
    _, ids = await busy_tenant(world, agents)
    again = (
        "insert into orchestrator.offers select (jsonb_populate_record(o,"
        " jsonb_build_object('id', 'off_other'))).* from orchestrator.offers o where id = $1"
    )
    with pytest.raises(asyncpg.UniqueViolationError, match="offers_one_accepted"):
        await world.rows(again, ids["offer_id"])
    with pytest.raises(asyncpg.CheckViolationError):
        await world.rows(
            "update orchestrator.reviews set reviewer_agent_id = author_agent_id where id = $1",
            ids["review_id"],
        )
