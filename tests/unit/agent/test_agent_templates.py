"""The catalogue of templates: each is a definition that the contract takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gathering.agent.v1 import agent_service_pb2
from gathering_agent.agents.agents import check_competences
from gathering_agent.agents.app_templates import load_templates
from gathering_agent.agents.models import AgentFields, AgentTemplate, MemoryPolicy, Persona, Style
from gathering_agent.agents.templates import filled
from gathering_agent.context.prompts import persona as told
from gathering_agent.convert import template_message
from gathering_mesh.validation import Validator
from tests.unit.agent.test_agent_context import AGENT

TEMPLATES = load_templates().all


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda each: each.name)
def test_template_is_within_the_contracts_bounds(template: AgentTemplate) -> None:
    message = template_message(template)
    Validator().check(agent_service_pb2.CreateAgentRequest(agent=message.definition))
    check_competences(template.fields)
    assert template.summary
    assert template.fields.name
    assert template.fields.persona.base_prompt
    assert not template.fields.model, "which models there are is the operator's to say"


def test_every_template_says_something_else() -> None:
    assert len({each.fields.persona.base_prompt for each in TEMPLATES}) == len(TEMPLATES)


def test_unknown_field_of_a_template_is_an_error(tmp_path: Path) -> None:
    text = 'summary = "x"\ntempo = 1\n[persona]\nrole = "r"\nbase_prompt = "p"\n'
    (tmp_path / "odd.toml").write_text(text)
    with pytest.raises(TypeError, match="tempo"):
        load_templates(tmp_path)


def test_what_is_given_replaces_the_templates_own() -> None:
    template = AgentFields(
        name="T",
        persona=Persona(role="r", base_prompt="p", style=Style.FORMAL),
        max_turn_steps=9,
        memory_policy=MemoryPolicy(read_only=True),
    )
    assert filled(AgentFields(), template) == template
    given = AgentFields(name="G", persona=Persona(base_prompt="g", style=Style.CONCISE))
    made = filled(given, template)
    assert (made.name, made.persona.role, made.persona.base_prompt) == ("G", "r", "g")
    assert (made.persona.style, made.max_turn_steps) == (Style.CONCISE, 9)
    own = filled(AgentFields(memory_policy=MemoryPolicy(recall_limit=0)), template)
    assert own.memory_policy == MemoryPolicy(recall_limit=0)


def test_prompt_holds_the_whole_persona() -> None:
    persona = Persona(specialisations=("maps",), preferences=("tables", "few words"))
    agent = replace(AGENT, fields=AgentFields(name="Ada", persona=persona))
    said = told(agent)
    assert "You know best: maps." in said
    assert "You prefer: tables; few words." in said
