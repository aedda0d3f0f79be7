"""Templates: ready definitions to create agents from, and what is given beside one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from typing import TypeVar

from gathering_agent.agents.models import AgentFields, AgentTemplate, MemoryPolicy, Persona, Style
from gathering_agent.errors import TemplateNotFound

Definition = TypeVar("Definition", AgentFields, Persona)
_NOT_GIVEN: tuple[object, ...] = ("", 0, (), MemoryPolicy(), Style.BALANCED)


class Templates:
    """The catalogue of templates."""

    def __init__(self, templates: Iterable[AgentTemplate]) -> None:
        self._templates = {
            each.name: each for each in sorted(templates, key=lambda each: each.name)
        }

    @property
    def all(self) -> tuple[AgentTemplate, ...]:
        """Return all, by name."""
        return tuple(self._templates.values())

    def get(self, name: str) -> AgentTemplate:
        """Return a template; TemplateNotFound."""
        if name not in self._templates:
            raise TemplateNotFound(name)
        return self._templates[name]


def filled(given: AgentFields, template: AgentFields) -> AgentFields:
    """Return a definition in which what is not given is the template's."""
    given = replace(given, persona=_filled(given.persona, template.persona))
    return _filled(given, template)


def _filled(given: Definition, template: Definition) -> Definition:
    missing = [each.name for each in fields(given) if getattr(given, each.name) in _NOT_GIVEN]
    return replace(given, **{name: getattr(template, name) for name in missing})
