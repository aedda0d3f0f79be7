"""Remember, recall by words, merge, supersede, forget."""

from __future__ import annotations

import pytest

from gathering.memory.v1 import memory_pb2 as pb
from gathering_mesh.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from gathering_mesh.ids import new_id
from tests.integration.memory.callers import CIRCLE, PRIVATE, TENANT, Service


async def test_remembered_text_is_found_by_its_words_at_once(words_only: Service) -> None:
    ada = words_only.caller()
    await ada.remember("The staging database is restored every night at two")
    kept = await ada.remember("The invoices of Berlin are archived by Grace", importance=0.9)
    found = await ada.hits("who archives invoices?")
    assert [hit.memory.memory_id for hit in found.hits] == [kept.memory_id]
    assert found.pending_embedding_count == 2
    hit = found.hits[0]
    assert hit.lexical_score == 1 and hit.vector_score == 0 and 0.9 < hit.score <= 1
    assert kept.state == pb.MEMORY_STATE_ACTIVE and kept.type == pb.MEMORY_TYPE_FACT


async def test_same_text_in_the_same_scope_is_one_memory(words_only: Service) -> None:
    ada = words_only.caller()
    first = await ada.remember("Tea is at four")
    again = await ada.remember("Tea is at four")
    elsewhere = await ada.remember("Tea is at four", TENANT)
    assert again.memory_id == first.memory_id and again.remembered_count == 2
    assert elsewhere.memory_id != first.memory_id and elsewhere.remembered_count == 1


async def test_superseded_memory_is_kept_but_not_recalled(words_only: Service) -> None:
    ada = words_only.caller()
    old = await ada.remember("The release is on Monday")
    new = await ada.remember("The release is on Friday", supersedes_memory_id=old.memory_id)
    assert await ada.recall("when is the release") == ["The release is on Friday"]
    kept = await ada.get(old.memory_id)
    assert kept.state == pb.MEMORY_STATE_SUPERSEDED and kept.text == "The release is on Monday"
    assert kept.superseded_by_memory_id == new.memory_id
    with pytest.raises(FailedPrecondition) as refused:
        await ada.remember("On Sunday", supersedes_memory_id=old.memory_id)
    assert refused.value.metadata["state"] == "SUPERSEDED"


async def test_text_that_supersedes_itself_stays(words_only: Service) -> None:
    ada = words_only.caller()
    old = await ada.remember("It rains")
    same = await ada.remember("It rains", supersedes_memory_id=old.memory_id)
    assert same.memory_id == old.memory_id and same.state == pb.MEMORY_STATE_ACTIVE


async def test_superseded_text_may_become_true_again(words_only: Service) -> None:
    ada = words_only.caller()
    old = await ada.remember("The door is open")
    new = await ada.remember("The door is shut", supersedes_memory_id=old.memory_id)
    back = await ada.remember("The door is open", supersedes_memory_id=new.memory_id)
    assert back.memory_id != old.memory_id
    assert await ada.recall("door") == ["The door is open"]


async def test_memory_of_another_scope_cannot_be_superseded(words_only: Service) -> None:
    ada = words_only.caller()
    old = await ada.remember("Lunch is at one", TENANT)
    with pytest.raises(InvalidArgument) as refused:
        await ada.remember("Lunch is at two", supersedes_memory_id=old.memory_id)
    assert "supersedes_memory_id" in refused.value.fields
    stranger = words_only.caller(ada.tenant)
    with pytest.raises(PermissionDenied):
        await stranger.remember("Lunch is off", TENANT, supersedes_memory_id=old.memory_id)
    hidden = await ada.remember("My lunch")
    with pytest.raises(NotFound):
        await stranger.remember("No lunch", TENANT, supersedes_memory_id=hidden.memory_id)


async def test_forgotten_memory_leaves_only_its_id(words_only: Service) -> None:
    ada = words_only.caller()
    kept = await ada.remember("The vault code is tangerine", tags=["secret"])
    gone = await ada.forget(kept.memory_id)
    assert gone.state == pb.MEMORY_STATE_FORGOTTEN and not gone.text and not gone.tags
    assert (await ada.forget(kept.memory_id)).state == pb.MEMORY_STATE_FORGOTTEN
    assert await ada.recall("tangerine vault") == []
    assert not (await ada.page()).memories
    async with words_only.database.server.admin(words_only.database.name) as admin:
        for table in ("posting", "embedding", "work", "recall_stat"):
            assert not await admin.fetchval(f"select count(*) from memory.{table}")  # noqa: S608 - a name of ours
        rows = await admin.fetch("select * from memory.memory")
        assert not any("tangerine" in str(value) for row in rows for value in row.values())
        stats = await admin.fetchrow("select * from memory.scope_stats")
        assert (stats["document_count"], stats["total_length"]) == (0, 0)


async def test_only_owner_and_administrator_forget(words_only: Service) -> None:
    ada = words_only.caller()
    kept = await ada.remember("Everybody may read this", TENANT)
    bob = words_only.caller(ada.tenant)
    with pytest.raises(PermissionDenied):
        await bob.forget(kept.memory_id)
    boss = words_only.caller(ada.tenant, role="admin")
    assert (await boss.forget(kept.memory_id)).state == pb.MEMORY_STATE_FORGOTTEN
    private = await ada.remember("Only Ada reads this")
    with pytest.raises(NotFound):
        await bob.forget(private.memory_id)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"text": ""}, "text"),
        ({"text": " \n\t"}, "text"),
        ({"text": "x" * 20_001}, "text"),
        ({"text": "nul \0"}, "text"),
        ({"text": "x", "kind": TENANT, "scope_id": "somewhere"}, "scope.id"),
        ({"text": "x", "kind": CIRCLE}, "scope.id"),
        ({"text": "x", "kind": PRIVATE, "scope_id": "usr_x"}, "scope.id"),
        ({"text": "x", "kind": 0}, "scope.kind"),
        ({"text": "x", "importance": 1.5}, "importance"),
        ({"text": "x", "tags": ["t" * 65]}, "tags[0]"),
    ],
)
async def test_wrong_field_is_named(
    words_only: Service, fields: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await words_only.caller().remember(**fields)  # type: ignore[arg-type]  # wrong on purpose
    assert field in refused.value.fields


async def test_longest_text_is_stored_and_found(words_only: Service) -> None:
    ada = words_only.caller()
    words = " ".join(f"word{number}" for number in range(2_500))
    kept = await ada.remember(words[:20_000])
    found = await ada.hits("word1999")
    assert [hit.memory.memory_id for hit in found.hits] == [kept.memory_id]


async def test_unknown_memory_is_not_found(words_only: Service) -> None:
    with pytest.raises(NotFound):
        await words_only.caller().get(new_id("mem"))
