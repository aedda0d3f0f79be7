"""All skills of this installation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gathering_skills.errors import ToolNotFound
from gathering_skills.models_tools import SkillSpec
from gathering_skills.tooling.tool import Skill, Tool


class Catalogue:
    """Skills and tools by name; the names of tools are unique over all skills."""

    def __init__(self, skills: Iterable[Skill]) -> None:
        self._skills = {skill.name: skill for skill in sorted(skills, key=lambda s: s.name)}
        self._tools: dict[str, tuple[Skill, Tool]] = {}
        for skill in self._skills.values():
            for tool in skill.tools:
                if tool.spec.name in self._tools:
                    raise ValueError(f"two tools are named {tool.spec.name}")
                self._tools[tool.spec.name] = (skill, tool)

    def skills(self) -> Sequence[SkillSpec]:
        """Return what is told of all skills, by name."""
        return [skill.spec for skill in self._skills.values()]

    def has_skill(self, name: str) -> bool:
        """Tell whether there is such a skill."""
        return name in self._skills

    def find(self, name: str) -> tuple[str, Tool]:
        """Return a tool and the name of its skill; ToolNotFound."""
        found = self._tools.get(name)
        if found is None:
            raise ToolNotFound(name)
        return found[0].name, found[1]

    def tools(self) -> Sequence[tuple[str, Tool]]:
        """Return all tools with the names of their skills, by name."""
        return [(skill.name, tool) for _, (skill, tool) in sorted(self._tools.items())]
