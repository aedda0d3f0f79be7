"""Who may see and change what: the rules of scopes, in one place.

A user reads their own PRIVATE scope, the CIRCLE and PROJECT scopes that they belong to, and TENANT.
Owners see and forget what is theirs wherever it stands; administrators see everything. Only the
services that run agents, and administrators, read as an agent what that agent may read: its own
PRIVATE scope, the PERSONAL one that it has with the user for whom it works, and the circles and
projects to which it belongs. A user who asks directly as an agent
finds, of what that agent may read, what they may read themselves. So whatever a caller recalls is
there when the same caller asks for it by its id.

Whoever may write memories in the tenant may do so as an agent of it; into a circle's or project's
scope only where they belong to it as well, unless they run agents or administer the tenant.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from gathering_memory.errors import NotMember, NotOwner, ScopeInvalid
from gathering_memory.models import TENANT_SCOPE, Memory, Reach, Reader, Scope, ScopeKind
from gathering_mesh.call import Call

ADMINISTRATOR = "admin"
# Services that run agents; what acts for a user only, such as the gateway, is like that user.
RUNS_AGENTS = frozenset({"agent", "orchestrator"})
_AGENT_PREFIX = "agt_"
_OWNED = (ScopeKind.PRIVATE, ScopeKind.PERSONAL)
_SHARED_PREFIXES = {ScopeKind.CIRCLE: "crc", ScopeKind.PROJECT: "prj"}


def is_administrator(call: Call) -> bool:
    """Tell whether the caller administers the tenant."""
    return call.principal.role == ADMINISTRATOR


def reader(call: Call, agent_id: str) -> Reader:
    """Return as whom the caller reads."""
    trusted = is_administrator(call) or call.principal.actor in RUNS_AGENTS
    return Reader(call.user, agent_id, as_agent=trusted)


def valid(scope: Scope, agent_id: str, field: str = "scope") -> Scope:
    """Return the scope with the agent's id filled in; ScopeInvalid where kind and id do not fit."""
    if scope.kind is ScopeKind.TENANT:
        if scope.id:
            raise ScopeInvalid(f"{field}.id", "must be empty for the tenant's scope")
    elif scope.kind not in _OWNED:
        return with_members(scope, field)
    elif scope.kind is ScopeKind.PERSONAL and not (scope.id or agent_id):
        raise ScopeInvalid(f"{field}.id", "must be an agent's id")
    elif scope.id and not scope.id.startswith(_AGENT_PREFIX):
        own = ", or empty for the user's own" if scope.kind is ScopeKind.PRIVATE else ""
        raise ScopeInvalid(f"{field}.id", f"must be an agent's id{own}")
    elif agent_id and scope.id not in ("", agent_id):
        raise NotMember(f"an agent's {scope.kind.value} scope is its own")
    elif agent_id:
        return Scope(scope.kind, agent_id)
    return scope


def with_members(scope: Scope, field: str) -> Scope:
    """Return a circle's or project's scope; ScopeInvalid where the id can be none of its kind."""
    prefix = _SHARED_PREFIXES.get(scope.kind)
    if prefix is None:
        raise ScopeInvalid(f"{field}.kind", "must be CIRCLE or PROJECT")
    if not re.fullmatch(f"{prefix}_[0-9a-f]{{32}}", scope.id):
        problem = f"must be {prefix}_ and 32 hexadecimal digits, the id of a {scope.kind.value}"
        raise ScopeInvalid(f"{field}.id", problem)
    return scope


def _needs_no_member(scope: Scope) -> bool:
    """Tell the scopes whose readers follow from who asks."""
    return scope.kind in (ScopeKind.TENANT, *_OWNED)


def require_writer(
    call: Call,
    agent_id: str,
    scope: Scope,
    member_of: Collection[str],
    of_user: Collection[str],
) -> None:
    """Raise NotMember unless the caller, and the agent that it acts as, may write to the scope.

    `member_of`: what the agent belongs to; `of_user`: what the user does.
    """
    if _needs_no_member(scope):
        return
    key = scope.key(call.user)
    if agent_id and key not in member_of:
        raise NotMember(f"the agent {agent_id} is not a member of {scope.kind.value} {scope.id}")
    runs_agent = bool(agent_id) and call.principal.actor in RUNS_AGENTS
    if not (runs_agent or is_administrator(call) or key in of_user):
        raise NotMember(f"the caller is not a member of {scope.kind.value} {scope.id}")


def readable(
    who: Reader,
    named: Sequence[Scope],
    member_of: Collection[str],
    of_user: Collection[str],
    *,
    types: tuple[str, ...] = (),
    administrator: bool,
) -> Reach:
    """Return what a search covers: the named scopes, or all that the reader belongs to.

    `member_of`: what the reader belongs to; `of_user`: what the user does, who may not be the same.
    Raises NotMember for a named scope that the reader does not belong to.
    """
    if named:
        keys = []
        for scope in (valid(scope, who.agent_id, "scopes") for scope in named):
            keys.append(scope.key(who.user))
            if not (_needs_no_member(scope) or administrator or keys[-1] in member_of):
                raise NotMember(f"not a member of {scope.kind.value} {scope.id}")
        keys = list(dict.fromkeys(keys))
    else:
        kinds = _OWNED if who.agent_id else (ScopeKind.PRIVATE,)
        always = (*(Scope(kind, who.agent_id) for kind in kinds), TENANT_SCOPE)
        keys = [scope.key(who.user) for scope in always] + sorted(member_of)
    closed = [key for key in keys if not (who.as_agent or _opens(key, who.user, of_user))]
    return Reach(tuple(keys), types, who.user, tuple(closed))


def _opens(scope_key: str, user: str, member_of: Collection[str]) -> bool:
    """Tell whether a user may read all of a scope; of any other, they read what they own."""
    own = Scope(ScopeKind.PRIVATE).key(user)
    kind, *_, last = scope_key.split("/")
    personal = kind == ScopeKind.PERSONAL and last == user
    return personal or scope_key in (own, TENANT_SCOPE.key(user)) or scope_key in member_of


def may_see(call: Call, memory: Memory, member_of: Collection[str]) -> bool:
    """Tell whether the caller may read a memory by its id.

    A service that runs agents reads what an agent may know, which is all but what users keep to
    themselves, or told one agent for themselves.
    """
    if is_administrator(call) or memory.owner_user_id == call.user:
        return True
    if call.principal.actor in RUNS_AGENTS:
        return not memory.scope.owners_alone
    return _opens(memory.scope_key, call.user, member_of)


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
