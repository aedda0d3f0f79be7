"""What goes through the contract comes back as it was."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from gathering_agent.agents.models import (
    Agent,
    AgentFields,
    AgentState,
    Competence,
    ContextPolicy,
    MemoryPolicy,
    Persona,
    RememberMode,
    Style,
)
from gathering_agent.convert import agent_message, fields_of, struct, unstruct
from gathering_agent.models import (
    LIVE,
    TRANSITIONS,
    JsonObject,
    Limits,
    StopReason,
    Turn,
    TurnState,
)
from gathering_agent.streams.models import Ended, Frame
from gathering_agent.turns.convert import frame_message, turn_message

NOW = datetime(2026, 1, 1, tzinfo=UTC)
words = st.text(max_size=10)
lists = st.lists(words, max_size=2).map(tuple)
personas = st.builds(
    Persona,
    role=words,
    base_prompt=words,
    traits=lists,
    style=st.sampled_from(Style),
    languages=lists,
    specialisations=lists,
    preferences=lists,
)
policies = st.builds(
    MemoryPolicy,
    recall_limit=st.none() | st.integers(0, 50),
    read_only=st.booleans(),
    remember_mode=st.none() | st.sampled_from(RememberMode),
    remember_threshold=st.none() | st.floats(0, 1),
    remember_limit=st.none() | st.integers(0, 10),
)
fields = st.builds(
    AgentFields,
    name=words,
    persona=personas,
    competences=st.lists(
        st.builds(Competence, name=words, strength=st.floats(0, 1)), max_size=3
    ).map(tuple),
    model=words,
    max_concurrent_tasks=st.integers(0, 100),
    max_turn_steps=st.integers(0, 200),
    max_turn_tool_calls=st.integers(0, 1000),
    fallback_models=st.lists(st.text(max_size=5), max_size=3).map(tuple),
    memory_policy=policies,
    context_policy=st.builds(ContextPolicy, words),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False,
    allow_infinity=False, width=32) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@given(fields, st.sampled_from(AgentState))
def test_agent_comes_back_as_it_was(given_fields: AgentFields, state: AgentState) -> None:
    agent = Agent("agt_1", given_fields, state, 3, "usr_1", NOW, NOW)
    message = agent_message(agent, "v3")
    assert fields_of(message) == given_fields
    assert message.state


@given(policies)
def test_policy_is_stored_as_little_as_it_says(policy: MemoryPolicy) -> None:
    stored = json.loads(json.dumps(policy.said))
    assert MemoryPolicy.of(stored) == policy
    assert MemoryPolicy.of({**stored, "of_a_later_release": 1}) == policy
    assert None not in stored.values()
    assert MemoryPolicy().said == {"read_only": False}


@given(st.dictionaries(words, json_values, max_size=4))
def test_json_comes_back_as_it_was(value: JsonObject) -> None:
    message = struct(value)
    assert message is not None
    assert unstruct(message) == value
    assert struct(None) is None


@given(st.sampled_from(TurnState), st.none() | st.sampled_from(StopReason))
def test_turn_is_told_in_every_state(state: TurnState, reason: StopReason | None) -> None:
    turn = Turn("trn_1", "ses_1", "agt_1", "usr_1", "", state, Limits(), None, NOW,
                stop_reason=reason)  # fmt: skip
    message = turn_message(turn)
    assert message.state
    assert turn.ended == (state not in (*LIVE, TurnState.WAITING))
    if turn.ended:
        frame = frame_message(Frame("c", Ended(turn)))
        assert frame.WhichOneof("frame") == state.value


def test_every_state_has_its_transitions_and_the_end_has_none() -> None:
    assert set(TRANSITIONS) == set(TurnState)
    assert set(LIVE) == {TurnState.QUEUED, TurnState.RUNNING}


@given(st.dictionaries(st.text(max_size=5), st.integers(0, 9), min_size=2))
def test_names_of_an_object_have_one_order_in_all_processes(value: dict[str, int]) -> None:
    message = struct(dict(value))
    assert message is not None
    assert list(unstruct(message)) == sorted(value)
