"""What is true of every service at every moment: log, versions, keys, consumers, work.

Each invariant is a function named for what it says; it yields what contradicts it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import timedelta

from tests.chaos.world import Entry, Key, World

_FOR_EVER = timedelta(seconds=60)  # many times the longest lease of the tests
# What exactly one request makes. (A grant's event is the same for giving and taking.)
_CREATIONS = frozenset(
    {
        "agent_created", "api_key_created", "circle_created", "memory_created", "session_created",
        "task_created", "turn_started", "user_created", "workspace_created",
    }
)  # fmt: skip
# What a caller writes and nobody looks up: table and column.
_FREE = frozenset(
    {
        ("grants", "agent_id"), ("sessions", "workspace_id"), ("memory", "agent_id"),
        ("memory", "session_id"), ("memory", "turn_id"), ("memory", "task_id"),
        ("memory", "source_memory_id"),
    }
)  # fmt: skip


def positions_are_gapless_and_in_order(world: World) -> Iterator[str]:
    """1, 2, 3, ... up to the head."""
    for schema in world.schemas.values():
        positions = [entry.position for entry in schema.logged]
        (head,) = schema.tables["log_head"]
        if positions != list(range(1, head["position"] + 1)):
            yield f"{schema.name}: {len(positions)} entries, head {head['position']}"


def versions_are_gapless_and_in_order(world: World) -> Iterator[str]:
    """The events of one aggregate are 1, 2, 3, ... up to its version."""
    for schema in world.schemas.values():
        known = {(r["tenant_id"], r["id"]): r["version"] for r in schema.tables["aggregate"]}
        histories = schema.histories()
        for key, entries in histories.items():
            versions = [entry.version for entry in entries]
            if versions != list(range(1, known.get(key, 0) + 1)):
                yield f"{schema.name} {key[1]}: {versions} of {known.get(key, 0)}"
        for key in known.keys() - histories.keys():
            yield f"{schema.name} {key[1]}: no events of {known[key]}"


def events_are_unique(world: World) -> Iterator[str]:
    """No event is told twice."""
    for schema in world.schemas.values():
        ids = Counter(entry.event.id for entry in schema.entries)
        yield from (f"{schema.name} {event}: {n} times" for event, n in ids.items() if n > 1)


def events_speak_of_their_own(world: World) -> Iterator[str]:
    """An event is of the service and the aggregate under which it was written."""
    for schema in world.schemas.values():
        for entry in schema.entries:
            event = entry.event
            if (event.source, event.aggregate_id) != (schema.name, entry.aggregate_id):
                yield f"{schema.name} {entry.aggregate_id}: {event.source} {event.aggregate_id}"


def ids_belong_to_one_tenant(world: World) -> Iterator[str]:
    """Whatever is named anywhere, by row, reference or event, is of one tenant.

    But for what callers may write without that anybody looks it up: it leads to nothing.
    """
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for schema in world.schemas.values():
        for table, rows in schema.tables.items():
            for row in rows:
                for column, value in row.items():
                    named = column == "id" or column.endswith("_id")
                    if "tenant_id" in row and named and value and (table, column) not in _FREE:
                        owners[str(value)].add(row["tenant_id"])
        for entry in schema.entries:
            owners[entry.aggregate_id].add(entry.tenant)
    for name, tenants in owners.items():
        if len(tenants) > 1 and "_" in name and not name.startswith("req_"):
            yield f"{name}: {sorted(tenants)}"


def request_has_one_result(world: World) -> Iterator[str]:
    """A caller's request id has made one thing, and its key names a result.

    Several RPCs may have got the same id: each has a key of its own, and makes a thing of its own.
    """
    for schema in world.schemas.values():
        keys = Counter(
            (row["tenant_id"], row["request_id"]) for row in schema.tables["idempotency"]
        )
        made: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
        for entry in schema.entries:
            cause = entry.event.cause
            if cause.request_id and entry.event.type in _CREATIONS:
                who = (entry.tenant, cause.user_id, cause.actor, cause.request_id)
                made[*who, entry.event.type].append(entry.aggregate_id)
        for request, things in made.items():
            tenant, _, _, request_id, _ = request
            if len(things) > max(1, keys[tenant, request_id]):
                yield f"{schema.name} {request}: {things}"
        for row in schema.tables["idempotency"]:
            if not row["result"]:
                yield f"{schema.name} {row['method']} {row['request_id']}: a key without a result"


def consumers_are_not_ahead(world: World) -> Iterator[str]:
    """No consumer stands beyond the head of the log that it reads."""
    for schema in world.schemas.values():
        for row in schema.tables["consumer"]:
            source = world.get(row["source"])
            for head in source.tables["log_head"]:
                if row["epoch"] == head["epoch"] and row["position"] > head["position"]:
                    yield f"{schema.name} {row['name']}: {row['position']} of {head['position']}"
            if row["gap_count"]:
                yield f"{schema.name} {row['name']}: {row['gap_count']} gaps, {row['last_gap']}"


def event_is_answered_once(world: World) -> Iterator[str]:
    """No two events of one type and aggregate are reactions to the same event."""
    for schema in world.schemas.values():
        reactions: Counter[tuple[str, int, str, str]] = Counter()
        for entry in schema.entries:
            cause = entry.event.cause
            if cause.event_source:
                place = (cause.event_source, cause.event_position)
                reactions[*place, entry.event.type, _reaction(entry)] += 1
        for what, count in reactions.items():
            if count > 1:
                yield f"{schema.name}: {what} {count} times"


def _reaction(entry: Entry) -> str:
    payload: bytes = entry.payload.SerializeToString(deterministic=True)
    return payload.hex()


def fences_are_unique(world: World) -> Iterator[str]:
    """No two pieces of work are held under one fence."""
    for schema in world.schemas.values():
        fences = Counter(row["fence"] for row in schema.tables["work"] if row["owner"])
        yield from (f"{schema.name}: fence {fence}" for fence, n in fences.items() if n > 1)


# --- When nothing moves any more ----------------------------------------------------------------


def outbox_is_empty(world: World) -> Iterator[str]:
    """Every committed event is in the log."""
    for schema in world.schemas.values():
        if schema.waiting:
            yield f"{schema.name}: {len(schema.waiting)} wait"


def nothing_is_parked(world: World) -> Iterator[str]:
    """Every event that a consumer took was handled."""
    for schema in world.schemas.values():
        for row in schema.tables["parked"]:
            yield f"{schema.name} {row['name']} {row['aggregate_id']}: {row['error']}"


def no_lease_is_held_for_ever(world: World) -> Iterator[str]:
    """Work whose holder is gone was taken over."""
    for schema in world.schemas.values():
        for row in schema.tables["work"]:
            if row["owner"] and row["lease_until"] < world.now - _FOR_EVER:
                yield f"{schema.name} {row['kind']} {row['id']}: since {row['lease_until']}"


def work_of(world: World, schema: str, kind: str) -> set[Key]:
    """Return what has a row of work of this kind."""
    rows = world.get(schema).tables["work"]
    return {(row["tenant_id"], row["id"]) for row in rows if row["kind"] == kind}


ALWAYS = (
    positions_are_gapless_and_in_order,
    versions_are_gapless_and_in_order,
    events_are_unique,
    events_speak_of_their_own,
    ids_belong_to_one_tenant,
    request_has_one_result,
    consumers_are_not_ahead,
    event_is_answered_once,
    fences_are_unique,
)
QUIET = (outbox_is_empty, nothing_is_parked, no_lease_is_held_for_ever)
