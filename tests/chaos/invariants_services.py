"""What is true of turns, executions, tasks and all that is made: states, events and effects agree.

A state and its events are written in one transaction, so these hold at every moment, and those
under QUIET once nothing moves any more.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping

from tests.chaos.invariants_mesh import work_of
from tests.chaos.world import Entry, Key, Row, World

_LIVE_TURNS = ("waiting", "queued", "running")
_LIVE_EXECUTIONS = ("awaiting_approval", "requested", "running")
_TASK_ENDS = {
    "COMPLETED": "task_completed", "FAILED": "task_failed", "CANCELLED": "task_cancelled",
}  # fmt: skip
_DRIVEN = ("PENDING", "OFFERED", "ACCEPTED", "RUNNING", "IN_REVIEW")
# Table, and the event by which its rows begin.
_MADE = (
    ("agent", "agents", "agent_created"),
    ("agent", "sessions", "session_created"),
    ("agent", "turns", "turn_started"),
    ("skills", "executions", "execution_requested"),
    ("skills", "workspaces", "workspace_created"),
    ("orchestrator", "circles", "circle_created"),
    ("orchestrator", "tasks", "task_created"),
    ("gateway", "member", "user_created"),
    ("gateway", "api_key", "api_key_created"),
    ("gateway", "delegation", "delegation_created"),
)


def each_thing_has_its_first_event(world: World) -> Iterator[str]:
    """What exists was told of, once, and what was told of exists."""
    for service, table, kind in _MADE:
        schema = world.get(service)
        told = Counter(
            (entry.tenant, entry.aggregate_id)
            for entry in schema.entries
            if entry.event.type == kind
        )
        stored = set(schema.rows(table))
        yield from (f"{kind} {key[1]}: no row" for key in told.keys() - stored)
        yield from (f"{table} {key[1]}: no event" for key in stored - told.keys())
        yield from (f"{kind} {key[1]}: {n} times" for key, n in told.items() if n > 1)


def turn_ends_once_as_its_state_says(world: World) -> Iterator[str]:
    """Nothing follows the one event of a turn's end."""
    schema = world.get("agent")
    histories = schema.histories()
    for key, row in schema.rows("turns").items():
        kinds = [entry.event.type for entry in histories.get(key, ())]
        ends = [
            kind for kind in kinds if kind in ("turn_completed", "turn_failed", "turn_cancelled")
        ]
        expected = [] if row["state"] in _LIVE_TURNS else [f"turn_{row['state']}"]
        if ends != expected or (ends and kinds[-1] != ends[0]):
            yield f"{key[1]} {row['state']}: {kinds}"


def turn_steps_are_a_journal(world: World) -> Iterator[str]:
    """Steps are 1, 2, 3, ...; one message per step and role; one event for each model's answer.

    Messages that were copied or imported are of no turn; a deleted turn has none.
    """
    schema = world.get("agent")
    spoken = [row for row in schema.tables["messages"] if row["turn_id"]]
    slots = Counter((r["tenant_id"], r["turn_id"], r["step"], r["role"]) for r in spoken)
    yield from (f"{slot}: {n} messages" for slot, n in slots.items() if n > 1)
    steps = defaultdict(list)
    for row in spoken:
        if row["role"] == "assistant":
            steps[row["tenant_id"], row["turn_id"]].append(row["step"])
    histories = schema.histories()
    for key, row in schema.rows("turns").items():
        stored = sorted(steps[key])
        told = [
            e.payload.step for e in histories.get(key, ()) if e.event.type == "turn_step_completed"
        ]
        kept = [] if row["deleted"] else told
        if stored != kept or told != list(range(1, row["model_calls"] + 1)):
            yield f"{key[1]}: steps {stored}, events {told}, {row['model_calls']} model calls"


def budgets_are_as_their_calls(world: World) -> Iterator[str]:
    """What a budget has spent and reserved is the sum of its calls, and no cap is passed."""
    schema = world.get("agent")
    for (tenant, name), row in schema.rows("budgets").items():
        spent = reserved = calls = 0
        for call in schema.tables["model_attempts"]:
            if call["tenant_id"] != tenant or name not in call["budgets"]:
                continue
            ended = call["end_time"] is not None
            spent += (call["input_tokens"] + call["output_tokens"]) if ended else 0
            calls += ended and not call["unsent"]
            reserved += 0 if ended else call["reserved_tokens"]
        said = (row["spent_tokens"], row["spent_calls"], row["reserved_tokens"])
        if said != (spent, calls, reserved):
            yield f"{name}: {said}, its calls {(spent, calls, reserved)}"
        if row["max_tokens"] is not None and spent + reserved > row["max_tokens"]:
            yield f"{name}: {spent} + {reserved} tokens of {row['max_tokens']}"


def session_messages_are_in_a_row(world: World) -> Iterator[str]:
    """The messages of a session are 1, 2, 3, ... and as many as it says.

    What was said with a turn that waits has no place yet.
    """
    schema = world.get("agent")
    found = defaultdict(list)
    for row in schema.tables["messages"]:
        if row["sequence"] is not None:
            found[row["tenant_id"], row["session_id"]].append(row["sequence"])
    for key, row in schema.rows("sessions").items():
        if sorted(found[key]) != list(range(1, row["message_count"] + 1)):
            yield f"{key[1]}: {sorted(found[key])} of {row['message_count']}"


def nobody_waits_for_nothing(world: World) -> Iterator[str]:
    """Where turns of a session wait, one of it lives; each has what was said with it, once."""
    schema = world.get("agent")
    turns = schema.rows("turns")
    states = defaultdict(list)
    for row in turns.values():
        states[row["tenant_id"], row["session_id"]].append(row["state"])
    for (_, session), found in states.items():
        living = sum(state in ("queued", "running") for state in found)
        if living > 1 or ("waiting" in found and not living):
            yield f"{session}: {found}"
    kept = Counter(
        (row["tenant_id"], row["turn_id"])
        for row in schema.tables["messages"]
        if row["sequence"] is None
    )
    for key in kept.keys() | {key for key, row in turns.items() if row["state"] == "waiting"}:
        if turns[key]["state"] != "waiting" or kept[key] != 1:
            yield f"{key[1]} {turns[key]['state']}: {kept[key]} messages without a place"


def execution_is_of_one_stored_call(world: World) -> Iterator[str]:
    """A turn's execution is named by turn, step and index of a stored call, and has no twin."""
    calls = {
        (row["tenant_id"], call["call_id"]): call["tool"]
        for row in world.get("agent").tables["messages"]
        for call in json.loads(row["tool_calls"])
    }
    seen: Counter[Key] = Counter()
    deleted = {key for key, row in world.get("agent").rows("turns").items() if row["deleted"]}
    for (tenant, name), row in world.get("skills").rows("executions").items():
        if not row["turn_id"] or (tenant, row["turn_id"]) in deleted:
            continue
        key = (tenant, row["request_id"])
        seen[key] += 1
        if calls.get(key) != row["tool"]:
            yield f"{name}: {row['tool']} for {row['request_id']}, stored {calls.get(key)}"
    yield from (f"{key[1]}: {n} executions" for key, n in seen.items() if n > 1)


def execution_events_are_its_life(world: World) -> Iterator[str]:
    """Requested, approved where that was asked, each attempt in order, finished as it says."""
    schema = world.get("skills")
    histories = schema.histories()
    for key, row in schema.rows("executions").items():
        entries = histories.get(key, [])
        kinds = [_life(entry) for entry in entries]
        expected = ["requested", *_asked(row), *map(str, range(1, row["attempt_count"] + 1))]
        if row["state"] not in _LIVE_EXECUTIONS:
            expected.append(row["state"])
        if kinds != expected:
            yield f"{key[1]} {row['state']} {row['tool']}: {kinds}"


def _asked(row: Row) -> Iterator[str]:
    """Yield what is told of a question: that it was asked and, once, how it ended."""
    if not row["approval_digest"]:
        return
    yield "approval_requested"
    if row["approval_user_id"]:
        yield "denied" if row["state"] == "denied" else "approved"
    elif row["state"] != "awaiting_approval":
        yield str(row["state"])


def _life(entry: Entry) -> str:
    kind = entry.event.type.removeprefix("execution_")
    if kind == "approval_closed":
        return str(entry.payload.outcome)
    if kind == "started":
        return str(entry.payload.attempt)
    return str(entry.payload.state) if kind == "finished" else kind


def effect_happens_once(world: World) -> Iterator[str]:
    """A tool that may act once has acted at most once, and once if it is done; never unasked."""
    rows = {name: row for (_, name), row in world.get("skills").rows("executions").items()}
    seen = Counter((effect.execution_id, effect.kind) for effect in world.effects)
    for (name, kind), count in seen.items():
        if kind == "once" and count > 1:
            yield f"{name}: {count} effects"
        if name not in rows:
            yield f"{name}: an effect of nothing"
    kinds = {"witness_once": "once", "witness_keyed": "keyed"}
    for name, row in rows.items():
        kind = kinds.get(row["tool"], "")
        if kind and row["state"] == "done" and not seen[name, kind]:
            yield f"{name} {row['tool']}: done without its effect"


def task_events_are_its_life(world: World) -> Iterator[str]:
    """A task ends once as its state says; nothing of its life is told afterwards."""
    schema = world.get("orchestrator")
    histories = schema.histories()
    for key, row in schema.rows("tasks").items():
        kinds = [entry.event.type for entry in histories.get(key, ())]
        ends = [kind for kind in kinds if kind in _TASK_ENDS.values()]
        expected = [_TASK_ENDS[row["state"]]] if row["state"] in _TASK_ENDS else []
        if ends != expected or (ends and kinds[-1] != ends[0]):
            yield f"{key[1]} {row['state']}: {kinds}"
        if row["state"] == "ESCALATED" and "task_escalated" not in kinds:
            yield f"{key[1]}: escalated in silence"


def offers_and_reviews_have_their_events(world: World) -> Iterator[str]:
    """Each offer and its answer, each review and its verdict, each round was told once."""
    schema = world.get("orchestrator")
    told = {kind: Counter[str]() for kind in _ANSWERS}
    rounds: Counter[tuple[str, str, int]] = Counter()
    for entry in schema.entries:
        kind = entry.event.type
        if kind in told:
            name = "review_id" if kind.startswith("review") else "offer_id"
            told[kind][getattr(entry.payload, name)] += 1
        elif kind in ("task_started", "task_submitted"):
            rounds[kind, entry.aggregate_id, entry.payload.round] += 1
    yield from (f"{what}: {n} times" for what, n in rounds.items() if n > 1)
    for kind, (table, counts) in _ANSWERS.items():
        stored = Counter(row["id"] for row in schema.tables[table] if counts(row))
        if stored != told[kind]:
            yield f"{kind}: {(stored - told[kind]) + (told[kind] - stored)}"


_ANSWERS: Mapping[str, tuple[str, Callable[[Row], bool]]] = {
    "task_offered": ("offers", lambda row: True),
    "offer_accepted": ("offers", lambda row: row["state"] == "ACCEPTED"),
    "offer_declined": ("offers", lambda row: row["state"] == "DECLINED"),
    "offer_expired": ("offers", lambda row: row["state"] == "EXPIRED"),
    "review_requested": ("reviews", lambda row: row["reviewer_agent_id"] != ""),
    "review_completed": ("reviews", lambda row: row["verdict"] is not None),
}


def turns_of_tasks_are_as_the_agent_says(world: World) -> Iterator[str]:
    """What the orchestrator heard of a turn is how it ended; a prompt has at most one turn."""
    turns = world.get("agent").rows("turns")
    asked: Counter[Key] = Counter()
    for row in world.get("orchestrator").tables["turns"]:
        key = (row["tenant_id"], row["turn_id"])
        if not row["turn_id"]:
            continue
        asked[key] += 1
        turn = turns.get(key)
        if turn is None:
            yield f"{row['id']}: there is no turn {row['turn_id']}"
        elif row["outcome"] not in (None, turn["state"].upper()):
            yield f"{row['id']}: heard {row['outcome']}, it is {turn['state']}"
    yield from (f"{key[1]}: answers {n} prompts" for key, n in asked.items() if n > 1)
    sessions = Counter((r["tenant_id"], r["session_id"]) for r in _task_turns(world))
    prompts = Counter(
        (r["tenant_id"], r["session_id"]) for r in world.get("orchestrator").tables["turns"]
    )
    for key, count in sessions.items():
        if count > prompts[key]:
            yield f"{key[1]}: {count} turns for {prompts[key]} prompts"


def _task_turns(world: World) -> Iterator[Row]:
    orchestrated = {row["id"] for row in world.get("orchestrator").tables["tasks"]}
    return (row for row in world.get("agent").tables["turns"] if row["task_id"] in orchestrated)


def what_lives_is_worked_on(world: World) -> Iterator[str]:
    """A turn, an execution, a task that has not ended has work that will bring it on."""
    lacking = {
        ("agent", "turns", "turn"): _LIVE_TURNS,
        ("skills", "executions", "execute"): _LIVE_EXECUTIONS,
    }
    for (service, table, kind), states in lacking.items():
        worked = work_of(world, service, kind)
        for key, row in world.get(service).rows(table).items():
            if row["state"] in states and key not in worked:
                yield f"{table} {key[1]}: {row['state']}, and nobody works on it"
    worked = work_of(world, "orchestrator", "task")
    for key, row in world.get("orchestrator").rows("tasks").items():
        waits = row["assigned_mode"] == "EXTERNAL" and row["state"] == "RUNNING"
        if row["state"] in _DRIVEN and not waits and key not in worked:
            yield f"task {key[1]}: {row['state']}, and nobody drives it"


def what_has_ended_is_not_worked_on(world: World) -> Iterator[str]:
    """Work for a turn or an execution ends with it."""
    for service, table, kind, live in (
        ("agent", "turns", "turn", _LIVE_TURNS),
        ("skills", "executions", "execute", _LIVE_EXECUTIONS),
    ):
        rows = world.get(service).rows(table)
        for key in work_of(world, service, kind):
            if key not in rows or rows[key]["state"] not in live:
                yield f"{kind} {key[1]}: still there"


# --- When nothing moves any more ----------------------------------------------------------------


def everything_has_ended(world: World) -> Iterator[str]:
    """Turns and executions have ended; tasks have, or wait for somebody outside."""
    for service, table, live in (
        ("agent", "turns", _LIVE_TURNS),
        ("skills", "executions", _LIVE_EXECUTIONS),
    ):
        for key, row in world.get(service).rows(table).items():
            if row["state"] in live:
                yield f"{table} {key[1]}: {row['state']}"


def turns_were_heard_of(world: World) -> Iterator[str]:
    """The orchestrator knows of every end of the turns that it asked for."""
    turns = world.get("agent").rows("turns")
    for row in world.get("orchestrator").tables["turns"]:
        turn = turns.get((row["tenant_id"], row["turn_id"]))
        if turn and turn["state"] not in _LIVE_TURNS and row["outcome"] is None:
            yield f"{row['id']}: {turn['state']} was not heard of"


ALWAYS = (
    each_thing_has_its_first_event,
    turn_ends_once_as_its_state_says,
    turn_steps_are_a_journal,
    budgets_are_as_their_calls,
    session_messages_are_in_a_row,
    nobody_waits_for_nothing,
    execution_is_of_one_stored_call,
    execution_events_are_its_life,
    effect_happens_once,
    task_events_are_its_life,
    offers_and_reviews_have_their_events,
    turns_of_tasks_are_as_the_agent_says,
    what_lives_is_worked_on,
    what_has_ended_is_not_worked_on,
)
QUIET = (everything_has_ended, turns_were_heard_of)
