"""Proto to model and back; executions move along their table only."""

from __future__ import annotations

import math
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from gathering.skills.v1 import execution_pb2, execution_service_pb2, skill_pb2, skill_service_pb2
from gathering_skills.convert import order_of, struct, unstruct, wait_of, wish_of
from gathering_skills.errors import ArgumentsInvalid, FieldInvalid
from gathering_skills.executions import digest_of
from gathering_skills.models import TRANSITIONS, ExecutionState, Order
from gathering_skills.models_tools import EffectClass, Permission

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: not x.is_integer())
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=20,
)
OBJECTS = st.dictionaries(st.text(st.characters(codec="utf-8")), JSON, max_size=4)


@given(OBJECTS)
def test_json_survives_protobuf(values: dict[str, Any]) -> None:
    message = Struct.FromString(struct(values).SerializeToString())
    assert unstruct(message) == values


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_number_that_json_has_not_is_refused(number: float) -> None:
    request = execution_service_pb2.ExecuteRequest(tool="t")
    request.arguments.fields["x"].list_value.values.add().number_value = number
    with pytest.raises(ArgumentsInvalid):
        order_of(request)


def test_wait_is_thirty_seconds_unless_named() -> None:
    request = execution_service_pb2.ExecuteRequest()
    assert wait_of(request) == 30
    request.wait.FromMilliseconds(0)
    assert wait_of(request) == 0
    request.wait.FromMilliseconds(1500)
    assert wait_of(request) == 1.5


@given(OBJECTS, OBJECTS)
def test_digest_tells_orders_apart(one: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = (digest_of(Order("t", values)) for values in (one, other))
    assert (first == second) == (one == other)
    assert digest_of(Order("t", dict(reversed(one.items())))) == first
    assert digest_of(Order("t", one, agent_id="a")) != first


def test_enums_of_contract_and_model_have_the_same_values() -> None:
    pairs = (
        (skill_pb2.Permission, "PERMISSION_", Permission),
        (skill_pb2.EffectClass, "EFFECT_CLASS_", EffectClass),
        (execution_pb2.ExecutionState, "EXECUTION_STATE_", ExecutionState),
    )
    for contract, prefix, model in pairs:
        names = {name.removeprefix(prefix) for name in contract.keys()}  # noqa: SIM118 - no dict
        assert names - {"UNSPECIFIED"} == {value.name for value in model}


@pytest.mark.parametrize("value", [0, 99])
def test_permission_that_is_none_is_refused(value: int) -> None:
    request = skill_service_pb2.CreateGrantRequest(skill="filesystem")
    request.permissions.append(skill_pb2.PERMISSION_READ)
    request.permissions.append(value)  # type: ignore[arg-type] # what a newer client may send
    with pytest.raises(FieldInvalid) as refused:
        wish_of(request)
    assert list(refused.value.fields) == ["permissions[1]"]


def test_ends_are_ends_and_all_states_are_in_the_table() -> None:
    assert set(TRANSITIONS) == set(ExecutionState)
    ends = {state for state in ExecutionState if state.ended}
    assert set(ExecutionState) - ends == {
        ExecutionState.AWAITING_APPROVAL,
        ExecutionState.REQUESTED,
        ExecutionState.RUNNING,
    }
