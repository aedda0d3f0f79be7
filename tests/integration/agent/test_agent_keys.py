"""Tenants' own keys of providers: whose calls they pay, who sees them, and that nobody does."""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from gathering.agent.v1 import model_service_pb2 as pb
from gathering.agent.v1 import provider_key_pb2, turn_pb2
from tests.integration.agent.harness import Caller, Service
from tests.integration.agent.peers import Peers
from tests.integration.agent.test_agent_agents import refusal, tail
from tests.integration.agent.two_providers import (
    ANSWER,
    CLAUDE,
    GPT,
    Wires,
    attempts,
    chained,
    serving_both,
    two_providers,
)
from tests.support.postgres import TestDatabase
from tests.support.providers.serving import Reply
from tests.support.waiting import eventually

OPERATORS = "operators-anthropic-key"
OWN, OTHER = "sk-own-0123456789abcdef-WXYZ", "sk-other-0123456789abcde-1234"


@pytest.fixture
async def wires() -> AsyncIterator[Wires]:
    """Both providers."""
    async with two_providers() as running:
        yield running


def with_master(folder: Path, name: str = "master") -> Path:
    """Write a new master key."""
    path = folder / name
    path.write_bytes(base64.b64encode(os.urandom(32)))
    return path


@pytest.fixture
async def replicas(
    database: TestDatabase, peers: Peers, tmp_path: Path, wires: Wires
) -> AsyncIterator[list[Service]]:
    """Two replicas with one master key; the operator has a key of Anthropic's alone."""
    more = {"agent_master_key_file": with_master(tmp_path), "openai_api_key": ""}
    more["agent_compatible"] = ()
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(serving_both(database, peers, tmp_path, wires, **more))
            for _ in range(2)
        ]


@pytest.fixture
def service(replicas: list[Service]) -> Service:
    """One of them."""
    return replicas[0]


async def set_key(
    user: Caller, key: str = OWN, provider: str = "anthropic", **more: Any
) -> provider_key_pb2.ProviderKey:
    request = pb.SetProviderKeyRequest(provider=provider, key=key, **more)
    made: provider_key_pb2.ProviderKey = await user.call("ModelService.SetProviderKey", request)
    return made


async def delete_key(user: Caller, key_id: str, **more: Any) -> provider_key_pb2.ProviderKey:
    request = pb.DeleteProviderKeyRequest(provider_key_id=key_id, **more)
    gone: provider_key_pb2.ProviderKey = await user.call("ModelService.DeleteProviderKey", request)
    return gone


async def keys(user: Caller, **paging: Any) -> pb.ListProviderKeysResponse:
    request = pb.ListProviderKeysRequest(**paging)
    page: pb.ListProviderKeysResponse = await user.call("ModelService.ListProviderKeys", request)
    return page


async def test_key_is_set_replaced_listed_and_deleted(service: Service) -> None:
    admin = service.caller(role="admin")
    made = await set_key(admin, request_id="once")
    assert made == await set_key(admin, request_id="once")
    assert (made.provider, made.last_characters, made.user_id) == ("anthropic", "WXYZ", admin.user)
    colleague = service.caller(admin.tenant, role="admin")
    again = await set_key(colleague, OTHER)
    assert (again.provider_key_id, again.last_characters) == (made.provider_key_id, "1234")
    assert again.user_id == colleague.user
    openai = await set_key(admin, OTHER, "openai")
    pages = await keys(admin, page_size=1)
    rest = await keys(admin, page_size=1, page_token=pages.next_page_token)
    assert [*pages.keys, *rest.keys] == [again, openai]
    assert rest.next_page_token == ""
    for _ in range(2):
        assert await delete_key(admin, again.provider_key_id, request_id="gone") == again
    assert (await refusal(delete_key(admin, again.provider_key_id))).reason == "NOT_FOUND"
    assert list((await keys(admin)).keys) == [openai]
    new = await set_key(admin)
    assert new.provider_key_id != again.provider_key_id


async def test_who_may_not_or_what_cannot_be_set_is_refused(service: Service) -> None:
    admin = service.caller(role="admin")
    made = await set_key(admin)
    stranger = service.caller(role="admin")
    assert (await refusal(delete_key(stranger, made.provider_key_id))).reason == "NOT_FOUND"
    assert not (await keys(stranger)).keys
    member = service.caller(admin.tenant, scopes="agents.read agents.write")
    for call in (set_key(member), keys(member), delete_key(member, made.provider_key_id)):
        assert (await refusal(call)).reason == "SCOPE_MISSING"
    for provider in ("offline", "nobody"):
        said = await refusal(set_key(admin, provider=provider))
        assert "anthropic, openai" in said.fields["provider"]
    for wrong in ("", "short", "with space in the middle", "x" * 501):
        said = await refusal(set_key(admin, wrong))
        assert said.reason == "INVALID_FIELD"
        assert not wrong or wrong not in f"{said.message} {said.fields}"


async def test_tenants_call_with_their_own_keys(service: Service, wires: Wires) -> None:
    one, two, three = (service.caller(role="admin") for _ in range(3))
    await set_key(one, OWN)
    await set_key(two, OTHER)
    for user in (one, two, three, one):
        turn = await user.chat(await chained(user, CLAUDE))
        assert turn.text == ANSWER["anthropic"]
    assert wires.anthropic.keys() == [OWN, OTHER, OPERATORS, OWN]


async def test_change_of_a_key_reaches_every_replica(replicas: list[Service], wires: Wires) -> None:
    admin = replicas[0].caller(role="admin")
    elsewhere = replicas[1].caller(admin.tenant)
    session = await chained(elsewhere, CLAUDE)

    async def calls_with(key: str) -> None:
        async def so() -> bool:
            await elsewhere.chat(session)
            return wires.anthropic.keys()[-1] == key

        await eventually(so)

    await calls_with(OPERATORS)
    made = await set_key(admin, OWN)
    await calls_with(OWN)
    await set_key(admin, OTHER)
    await calls_with(OTHER)
    await delete_key(admin, made.provider_key_id)
    await calls_with(OPERATORS)


async def test_model_without_any_key_is_there_for_who_has_one(
    database: TestDatabase, peers: Peers, tmp_path: Path, wires: Wires
) -> None:
    more = {"agent_master_key_file": with_master(tmp_path), "anthropic_api_key": ""}
    async with serving_both(database, peers, tmp_path, wires, **more) as service:
        admin, other = service.caller(role="admin"), service.caller(role="admin")
        said = await refusal(admin.agent(model=CLAUDE))
        assert said.reason == "MODEL_NOT_CONFIGURED"
        made = await set_key(admin)
        session = await chained(admin, CLAUDE)
        assert (await admin.chat(session)).text == ANSWER["anthropic"]
        assert (await refusal(other.agent(model=CLAUDE))).reason == "MODEL_NOT_CONFIGURED"
        assert [await sources(user) for user in (admin, other)] == [
            {"offline": "OPERATOR", CLAUDE: "TENANT", GPT: "OPERATOR"},
            {"offline": "OPERATOR", CLAUDE: "UNSPECIFIED", GPT: "OPERATOR"},
        ]
        await delete_key(admin, made.provider_key_id)
        turn = await admin.chat(session)
        assert turn.error_reason == "MODEL_NOT_CONFIGURED"
        assert await attempts(admin, turn.turn_id) == [(CLAUDE, "skipped", "MODEL_NOT_CONFIGURED")]


async def sources(user: Caller) -> dict[str, str]:
    found = await user.call("ModelService.ListModels", pb.ListModelsRequest())
    for model in found.models:
        assert model.available == bool(model.key_source)
    return {
        model.name: pb.ModelKeySource.Name(model.key_source).removeprefix("MODEL_KEY_SOURCE_")
        for model in found.models
    }


async def test_wrong_key_is_told_and_the_operators_does_not_stand_in(
    service: Service, wires: Wires
) -> None:
    admin = service.caller(role="admin")
    await set_key(admin)
    wires.anthropic.next = [Reply(status=401, error=f"invalid key {OWN}, was sent")]
    turn = await admin.chat(await chained(admin, CLAUDE))
    assert (turn.state, turn.error_reason) == (turn_pb2.TURN_STATE_FAILED, "MODEL_NOT_CONFIGURED")
    assert turn.error_message.endswith("invalid key ***, was sent")
    assert wires.anthropic.keys() == [OWN]


async def test_key_is_found_nowhere_but_where_it_is_sent(
    service: Service, wires: Wires, database: TestDatabase, capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    admin = service.caller(role="admin")
    made = await set_key(admin, request_id="once")
    wires.anthropic.next = [
        Reply(status=status, error=f"{OWN} {status}") for status in (500, 500, 400, 401)
    ]
    for _ in range(4):
        await admin.chat(await chained(admin, CLAUDE))
    assert wires.anthropic.keys() == [OWN] * 5
    events = await tail(service, 10)
    told = [event for event in events if event.type.startswith("provider_key")]
    assert [(e.type, e.aggregate_id) for e in told] == [("provider_key_set", made.provider_key_id)]
    texts = [str(events), caplog.text, *capfd.readouterr()]
    async with database.server.admin(database.name) as connection:
        tables = await connection.fetch(
            "select tablename from pg_tables where schemaname = 'agent'"
        )
        for (table,) in tables:
            query = f"select t::text from agent.{table} t"  # noqa: S608 (a name of ours)
            texts += [row[0] for row in await connection.fetch(query)]
    secret = OWN.encode()
    assert not [text for text in texts if OWN in text or secret.hex() in text]


async def test_old_master_key_is_replaced_when_a_key_is_used(
    database: TestDatabase, peers: Peers, tmp_path: Path, wires: Wires
) -> None:
    old, new = with_master(tmp_path, "old"), with_master(tmp_path, "new")
    steps: list[dict[str, Any]] = [
        {"agent_master_key_file": old},
        {"agent_master_key_file": new, "agent_old_master_key_files": (old,)},
        {"agent_master_key_file": new},
    ]
    tenant = ""
    for step in steps:
        async with serving_both(database, peers, tmp_path, wires, **step) as service:
            admin = service.caller(tenant, role="admin")
            if not tenant:
                await set_key(admin)
            tenant = admin.tenant
            await admin.chat(await chained(admin, CLAUDE))
    assert wires.anthropic.keys() == [OWN] * 3
    for lost in ({"agent_master_key_file": with_master(tmp_path, "another")}, {}):
        async with serving_both(database, peers, tmp_path, wires, **lost) as service:
            user = service.caller(tenant)
            turn = await user.chat(await chained(user, CLAUDE))
            assert turn.error_reason == "MODEL_NOT_CONFIGURED"
    assert wires.anthropic.calls == 3, "the operator does not pay for a key that cannot be read"


async def test_mesh_without_a_master_key_keeps_no_keys(
    database: TestDatabase, peers: Peers, tmp_path: Path, wires: Wires
) -> None:
    async with serving_both(database, peers, tmp_path, wires) as service:
        said = await refusal(set_key(service.caller(role="admin")))
        assert (said.reason, said.metadata["state"]) == ("WRONG_STATE", "no_master_key")


async def test_tenants_with_keys_of_their_own_open_no_circuit_for_others(
    database: TestDatabase, peers: Peers, tmp_path: Path, wires: Wires
) -> None:
    more = {
        "agent_master_key_file": with_master(tmp_path),
        "agent_circuit_failures": 2,
        "agent_circuit_seconds": 600.0,
        "agent_model_wait_seconds": 0.1,
    }
    async with serving_both(database, peers, tmp_path, wires, **more) as service:
        one, other = service.caller(role="admin"), service.caller(role="admin")
        await set_key(one)
        wires.anthropic.next = [Reply(status=429, error="too much")] * 2
        assert (await one.chat(await chained(one, CLAUDE))).error_reason == "MODEL_FAILED"
        held = await one.chat(await chained(one, CLAUDE))
        assert held.error_reason == "MODEL_UNAVAILABLE"
        assert one.tenant not in held.error_message
        assert (await other.chat(await chained(other, CLAUDE))).text == ANSWER["anthropic"]
        mine, theirs = await circuit_of(one, CLAUDE), await circuit_of(other, CLAUDE)
        assert (mine.state, mine.failure_count) == (pb.MODEL_CIRCUIT_STATE_OPEN, 2)
        assert mine.last_failure_reason == "MODEL_FAILED"
        assert mine.HasField("last_failure_time")
        assert theirs == pb.ModelCircuit(state=pb.MODEL_CIRCUIT_STATE_CLOSED)


async def circuit_of(user: Caller, name: str) -> pb.ModelCircuit:
    found = await user.call("ModelService.ListModels", pb.ListModelsRequest())
    (circuit,) = [model.circuit for model in found.models if model.name == name]
    assert isinstance(circuit, pb.ModelCircuit)
    return circuit


async def test_recorded_exchanges_answer_tenants_with_keys_of_their_own(
    database: TestDatabase, peers: Peers, tmp_path: Path, wires: Wires
) -> None:
    recorded: dict[str, Any] = {
        "agent_master_key_file": with_master(tmp_path),
        "agent_recordings": tmp_path / "recordings",
    }
    async with serving_both(
        database, peers, tmp_path, wires, **recorded, agent_recordings_mode="record"
    ) as service:
        keyed, plain = service.caller(role="admin"), service.caller()
        await set_key(keyed)
        await plain.chat(await chained(plain, CLAUDE))
        tenant = keyed.tenant
    async with serving_both(database, peers, tmp_path, wires, **recorded) as service:
        user = service.caller(tenant)
        turn = await user.chat(await chained(user, CLAUDE))
        assert turn.text == ANSWER["anthropic"], turn.error_message
        assert (await sources(user))[CLAUDE] == "OPERATOR"
    assert wires.anthropic.calls == 1
