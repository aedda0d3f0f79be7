"""Loaded by Python itself in the processes of a chaos mesh: gives skills the tests' own tools."""

import sys

if sys.orig_argv[-2:] == ["-m", "gathering_skills"]:
    from gathering_skills.tooling.tool import Skill
    from gathering_skills.tools import standard
    from tests.chaos.witness import SKILL

    skills: tuple[Skill, ...] = (*standard.SKILLS, SKILL)
    standard.SKILLS = skills  # type: ignore[assignment] # of another length
