"""Who may see and change what: the rules of scopes, in one place.

A user reads their own PRIVATE scope, the CIRCLE and PROJECT scopes that they belong to, and TENANT.
Owners see and forget what is theirs wherever it stands; administrators see everything. Only the
services that run agents, and administrators, read as an agent what that agent may read: its own
PRIVATE scope and the circles and projects to which it belongs. A user who asks directly as an agent
finds, of what that agent may read, what they may read themselves. So whatever a caller recalls is
there when the same caller asks for it by its id.

Whoever may write memories in the tenant may do so as an agent of it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from gathering_memory.errors import NotMember, NotOwner, ScopeInvalid
from gathering_memory.models import TENANT_SCOPE, Memory, Reach, Reader, Scope, ScopeKind
from gathering_mesh.call import Call

ADMINISTRATOR = "admin"
# Services that run agents; what acts for a user only, such as the gateway, is like that user.
RUNS_AGENTS = frozenset({"agent", "orchestrator"})
_AGENT_PREFIX = "agt_"


def is_administrator(call: Call) -> bool:
    """Tell whether the caller administers the tenant."""
    return call.principal.role == ADMINISTRATOR


def reader(call: Call, agent_id: str = "") -> Reader:
    """Return as whom the caller reads."""
    trusted = is_administrator(call) or call.principal.actor in RUNS_AGENTS
    return Reader(call.user, agent_id, as_agent=trusted)


def valid(scope: Scope, agent_id: str, field: str = "scope") -> Scope:
    """Return the scope with the agent's id filled in; ScopeInvalid where kind and id do not fit."""
    if scope.kind is ScopeKind.TENANT:
        if scope.id:
            raise ScopeInvalid(f"{field}.id", "must be empty for the tenant's scope")
    elif scope.kind is not ScopeKind.PRIVATE:
        if not scope.id:
            raise ScopeInvalid(f"{field}.id", f"must name the {scope.kind.value}")
    elif scope.id and not scope.id.startswith(_AGENT_PREFIX):
        raise ScopeInvalid(f"{field}.id", "must be an agent's id, or empty for the user's own")
    elif agent_id and scope.id not in ("", agent_id):
        raise NotMember("an agent's private scope is its own")
    elif agent_id:
        return Scope(ScopeKind.PRIVATE, agent_id)
    return scope


def _needs_no_member(scope: Scope) -> bool:
    """Tell the scopes whose readers follow from who asks; see `_owner` for agents' own."""
    return scope.kind in (ScopeKind.TENANT, ScopeKind.PRIVATE)


def require_writer(call: Call, agent_id: str, scope: Scope, member_of: Collection[str]) -> None:
    """Raise NotMember unless the caller, or the agent that it acts as, may write to the scope."""
    if _needs_no_member(scope):
        return
    if scope.key(call.user) in member_of or (not agent_id and is_administrator(call)):
        return
    who = f"the agent {agent_id}" if agent_id else "the caller"
    raise NotMember(f"{who} is not a member of {scope.kind.value} {scope.id}")


def readable(
    who: Reader,
    named: Sequence[Scope],
    member_of: Collection[str],
    *,
    types: tuple[str, ...] = (),
    administrator: bool,
) -> Reach:
    """Return what a search covers: the named scopes, or all that the reader belongs to.

    Raises NotMember for a named scope that the reader does not belong to.
    """
    if not named:
        named = (Scope(ScopeKind.PRIVATE, who.agent_id), TENANT_SCOPE)
        keys = [scope.key(who.user) for scope in named] + sorted(member_of)
        return Reach(tuple(keys), types, _owner(who, keys))
    keys = []
    for scope in (valid(scope, who.agent_id, "scopes") for scope in named):
        keys.append(scope.key(who.user))
        if not (_needs_no_member(scope) or administrator or keys[-1] in member_of):
            raise NotMember(f"not a member of {scope.kind.value} {scope.id}")
    return Reach(tuple(dict.fromkeys(keys)), types, _owner(who, keys))


def _owner(who: Reader, keys: Collection[str]) -> str:
    """Return whom the memories in agents' private scopes must belong to; empty: to anybody."""
    agents = f"{ScopeKind.PRIVATE.value}/{_AGENT_PREFIX}"
    return "" if who.as_agent or not any(key.startswith(agents) for key in keys) else who.user


def may_see(call: Call, memory: Memory, member_of: Collection[str]) -> bool:
    """Tell whether the caller may read a memory by its id.

    A service that runs agents reads what an agent may know, which is all but what users keep to
    themselves.
    """
    if is_administrator(call) or memory.owner_user_id == call.user:
        return True
    if call.principal.actor in RUNS_AGENTS:
        return memory.scope != Scope(ScopeKind.PRIVATE)
    return memory.scope.kind is ScopeKind.TENANT or memory.scope_key in member_of


def require_owner(call: Call, memory: Memory) -> None:
    """Raise NotOwner unless the memory is the caller's to forget."""
    if not (is_administrator(call) or memory.owner_user_id == call.user):
        raise NotOwner(f"the memory {memory.id} belongs to another user")


def require_replacer(call: Call, memory: Memory) -> None:
    """Raise NotOwner unless a writer of the memory's scope may put another in its place.

    What a circle or project knows is its members' to correct; elsewhere the owner's, and that of
    the agent whose memory it is, in the hands of a service that runs agents.
    """
    shared = memory.scope.kind in (ScopeKind.CIRCLE, ScopeKind.PROJECT)
    if not shared and call.principal.actor not in RUNS_AGENTS:
        require_owner(call, memory)
