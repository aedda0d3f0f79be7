"""The rules of scopes, each by itself."""

from __future__ import annotations

import pytest

from gathering_memory import access
from gathering_memory.errors import NotMember, ScopeInvalid
from gathering_memory.models import Reach, Scope, ScopeKind
from gathering_mesh.call import Call, Principal

AGENT, OTHER = "agt_1", "agt_2"
OWN = Scope(ScopeKind.PRIVATE)
CIRCLE = Scope(ScopeKind.CIRCLE, "crc_1")
MEMBER_OF = frozenset({"circle/crc_1"})


def call(role: str = "member", actor: str | None = None) -> Call:
    return Call(Principal("ten", "usr_1", frozenset(), role, actor), "Rpc")


def reach(who: Call, agent_id: str, *named: Scope) -> Reach:
    reader = access.reader(who, agent_id)
    return access.readable(reader, named, MEMBER_OF, administrator=access.is_administrator(who))


def test_all_scopes_of_a_user_are_searched_unless_some_are_named() -> None:
    assert reach(call(), "").scope_keys == ("private/usr_1", "tenant/", "circle/crc_1")
    assert reach(call(), "", CIRCLE, CIRCLE).scope_keys == ("circle/crc_1",)
    assert reach(call(), AGENT).scope_keys == ("private/agt_1", "tenant/", "circle/crc_1")
    assert reach(call(), AGENT, OWN).scope_keys == ("private/agt_1",)


@pytest.mark.parametrize(
    ("who", "owner"),
    [
        (call(), "usr_1"),
        (call(actor="gateway"), "usr_1"),
        (call(actor="skills"), "usr_1"),
        (call(actor="agent"), ""),
        (call(actor="orchestrator"), ""),
        (call(role="admin"), ""),
    ],
)
def test_agents_memories_are_open_to_the_services_that_run_agents(who: Call, owner: str) -> None:
    assert reach(who, AGENT).owner == owner
    assert reach(who, "", Scope(ScopeKind.PRIVATE, AGENT)).owner == owner
    assert reach(who, "").owner == ""


def test_user_who_asks_as_an_agent_has_to_belong_where_the_agent_does() -> None:
    assert access.reader(call()).member_ids == ("usr_1",)
    assert access.reader(call(actor="agent")).member_ids == ("usr_1",)
    for direct in (call(), call(actor="gateway")):
        assert access.reader(direct, AGENT).member_ids == (AGENT, "usr_1")
    for opened in (call(role="admin"), call(actor="agent"), call(actor="orchestrator")):
        assert access.reader(opened, AGENT).member_ids == (AGENT,)


def test_foreign_scopes_are_refused() -> None:
    with pytest.raises(NotMember):
        reach(call(), "", Scope(ScopeKind.CIRCLE, "crc_2"))
    with pytest.raises(NotMember):
        reach(call(actor="agent"), AGENT, Scope(ScopeKind.PRIVATE, OTHER))
    named = reach(call(role="admin"), "", Scope(ScopeKind.CIRCLE, "crc_2"))
    assert named.scope_keys == ("circle/crc_2",)


def test_private_scope_is_that_of_the_agent_who_remembers() -> None:
    assert access.valid(OWN, AGENT) == Scope(ScopeKind.PRIVATE, AGENT)
    assert access.valid(OWN, "") == OWN
    assert access.valid(Scope(ScopeKind.PRIVATE, AGENT), "").id == AGENT


@pytest.mark.parametrize(
    "scope",
    [
        Scope(ScopeKind.TENANT, "x"),
        Scope(ScopeKind.CIRCLE),
        Scope(ScopeKind.PROJECT),
        Scope(ScopeKind.PRIVATE, "usr_2"),
    ],
)
def test_kind_and_id_have_to_fit(scope: Scope) -> None:
    with pytest.raises(ScopeInvalid):
        access.valid(scope, "")


def test_administrator_writes_anywhere_but_not_as_an_agent_that_is_no_member() -> None:
    boss = call(role="admin")
    access.require_writer(boss, "", CIRCLE, frozenset())
    with pytest.raises(NotMember):
        access.require_writer(boss, AGENT, CIRCLE, frozenset())
