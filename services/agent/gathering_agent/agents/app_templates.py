"""Read the catalogue of templates: one TOML file each, beside this one."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from gathering_agent.agents.models import (
    AgentFields,
    AgentTemplate,
    Competence,
    MemoryPolicy,
    Persona,
    Style,
)
from gathering_agent.agents.templates import Templates

_FOLDER = Path(__file__).with_name("agent_templates")


def load_templates(folder: Path = _FOLDER) -> Templates:
    """Return the templates of a folder; a field that does not exist is an error."""
    return Templates(_template(path) for path in folder.glob("*.toml"))


def _template(path: Path) -> AgentTemplate:
    told = tomllib.loads(path.read_text(encoding="utf-8"))
    persona, memory = told.pop("persona"), told.pop("memory_policy", {})
    summary, skills = told.pop("summary"), told.pop("suggested_skills", ())
    competences = told.pop("competences", {})
    fallbacks = told.pop("fallback_models", ())
    return AgentTemplate(
        name=path.stem,
        summary=summary,
        skills=tuple(skills),
        fields=AgentFields(
            persona=_persona(persona),
            competences=tuple(Competence(name, float(how)) for name, how in competences.items()),
            memory_policy=MemoryPolicy.of(memory),
            fallback_models=tuple(fallbacks),
            **told,
        ),
    )


def _persona(told: dict[str, Any]) -> Persona:
    style = Style(told.pop("style", Style.BALANCED))
    prompt = told.pop("base_prompt").strip()
    return Persona(
        role=told.pop("role"),
        base_prompt=prompt,
        style=style,
        **{name: tuple(values) for name, values in told.items()},
    )
