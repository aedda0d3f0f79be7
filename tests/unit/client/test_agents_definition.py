"""A definition that was written as JSON is brought back whole."""

from __future__ import annotations

from pathlib import Path

from google.protobuf.json_format import MessageToJson

from gathering.agent.v1 import agent_pb2
from gathering_agent.agents.models import UPDATABLE
from gathering_client.commands.agents_definition import Said

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
