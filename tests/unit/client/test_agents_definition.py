"""A definition that was written as JSON is brought back whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from google.protobuf.json_format import MessageToJson

from gathering.agent.v1 import agent_pb2, session_pb2
from gathering_agent.agents.models import UPDATABLE
from gathering_client.choices import resume_strategy
from gathering_client.commands.agents_definition import Said, definition_rows

FULL = agent_pb2.Agent(
    name="Ada",
    persona=agent_pb2.Persona(role="keeper"),
    competences=[agent_pb2.Competence(name="tides", strength=0.5)],
    model="offline",
    fallback_models=["openai/small"],
    max_concurrent_tasks=2,
    max_turn_steps=3,
    max_turn_tool_calls=4,
    memory_policy=agent_pb2.MemoryPolicy(recall_limit=5),
    context_policy=agent_pb2.ContextPolicy(condensing_model="offline"),
)


def test_file_brings_back_each_field_that_an_update_takes(tmp_path: Path) -> None:
    file = tmp_path / "ada.json"
    file.write_text(MessageToJson(FULL, preserving_proto_field_name=True))
    agent = agent_pb2.Agent()
    assert sorted(Said(file=file).onto(agent)) == sorted(UPDATABLE)
    assert agent == FULL


def test_condensing_model_is_named_and_taken_back() -> None:
    agent = agent_pb2.Agent()
    assert Said(condensing_model="offline").onto(agent) == ["context_policy"]
    assert ("condenses", "offline") in definition_rows(agent)
    assert Said(condensing_model="").onto(agent) == ["context_policy"]
    assert agent.context_policy.condensing_model == ""
    assert Said().onto(agent) == []


def test_strategy_is_named_in_a_word() -> None:
    assert resume_strategy("") == session_pb2.RESUME_STRATEGY_UNSPECIFIED
    for word in ("task_focused", "Task-Focused"):
        assert resume_strategy(word) == session_pb2.RESUME_STRATEGY_TASK_FOCUSED
    with pytest.raises(typer.BadParameter, match="auto, full, summary, task_focused, minimal"):
        resume_strategy("unspecified")
