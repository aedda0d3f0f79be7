"""The rules of scopes, each by itself."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from gathering_memory import access
from gathering_memory.errors import NotMember, ScopeInvalid
from gathering_memory.models import Reach, Scope, ScopeKind
from gathering_mesh.call import Call, Principal

AGENT, OTHER = "agt_1", "agt_2"
OWN = Scope(ScopeKind.PRIVATE)
CIRCLE = Scope(ScopeKind.CIRCLE, "crc_" + "1" * 32)
FOREIGN = Scope(ScopeKind.CIRCLE, "crc_" + "2" * 32)
MEMBER_OF = frozenset({CIRCLE.key("")})


def call(role: str = "member", actor: str | None = None) -> Call:
    return Call(Principal("ten", "usr_1", frozenset(), role, actor), "Rpc")


def reach(who: Call, agent_id: str, *named: Scope, of_user: Collection[str] = MEMBER_OF) -> Reach:
    reader, boss = access.reader(who, agent_id), access.is_administrator(who)
    return access.readable(reader, named, MEMBER_OF, of_user, administrator=boss)


def test_all_scopes_of_a_user_are_searched_unless_some_are_named() -> None:
    assert reach(call(), "").scope_keys == ("private/usr_1", "tenant/", CIRCLE.key(""))
    assert reach(call(), "", CIRCLE, CIRCLE).scope_keys == (CIRCLE.key(""),)
    own = ("private/agt_1", "personal/agt_1/usr_1", "tenant/", CIRCLE.key(""))
    assert reach(call(), AGENT).scope_keys == own
    assert reach(call(), AGENT, OWN).scope_keys == ("private/agt_1",)


@pytest.mark.parametrize(
    ("who", "closed"),
    [
        (call(), ("private/agt_1",)),
        (call(actor="gateway"), ("private/agt_1",)),
        (call(actor="skills"), ("private/agt_1",)),
        (call(actor="agent"), ()),
        (call(actor="orchestrator"), ()),
        (call(role="admin"), ()),
    ],
)
def test_agents_memories_are_open_to_the_services_that_run_agents(
    who: Call, closed: tuple[str, ...]
) -> None:
    assert reach(who, AGENT).closed == closed
    assert reach(who, "", Scope(ScopeKind.PRIVATE, AGENT)).closed == closed
    assert reach(who, "").closed == ()


def test_user_who_asks_as_an_agent_finds_their_own_where_only_the_agent_belongs() -> None:
    for direct in (call(), call(actor="gateway")):
        assert reach(direct, AGENT, of_user=()).closed == ("private/agt_1", CIRCLE.key(""))
        assert reach(direct, AGENT, CIRCLE, of_user=()).closed == (CIRCLE.key(""),)
        assert reach(direct, AGENT, CIRCLE).closed == ()
    for opened in (call(role="admin"), call(actor="agent"), call(actor="orchestrator")):
        assert reach(opened, AGENT, of_user=()).closed == ()


def test_foreign_scopes_are_refused() -> None:
    with pytest.raises(NotMember):
        reach(call(), "", FOREIGN)
    with pytest.raises(NotMember):
        reach(call(actor="agent"), AGENT, Scope(ScopeKind.PRIVATE, OTHER))
    named = reach(call(role="admin"), "", FOREIGN)
    assert named.scope_keys == (FOREIGN.key(""),)


def test_private_scope_is_that_of_the_agent_who_remembers() -> None:
    assert access.valid(OWN, AGENT) == Scope(ScopeKind.PRIVATE, AGENT)
    assert access.valid(OWN, "") == OWN
    assert access.valid(Scope(ScopeKind.PRIVATE, AGENT), "").id == AGENT


@pytest.mark.parametrize(
    "scope",
    [
        Scope(ScopeKind.TENANT, "x"),
        Scope(ScopeKind.CIRCLE),
        Scope(ScopeKind.CIRCLE, "x"),
        Scope(ScopeKind.PROJECT, CIRCLE.id),
        Scope(ScopeKind.PROJECT),
        Scope(ScopeKind.PRIVATE, "usr_2"),
    ],
)
def test_kind_and_id_have_to_fit(scope: Scope) -> None:
    with pytest.raises(ScopeInvalid):
        access.valid(scope, "")


def test_administrator_writes_anywhere_but_not_as_an_agent_that_is_no_member() -> None:
    boss = call(role="admin")
    access.require_writer(boss, "", CIRCLE, frozenset(), frozenset())
    with pytest.raises(NotMember):
        access.require_writer(boss, AGENT, CIRCLE, frozenset(), frozenset())
