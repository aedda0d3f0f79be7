"""The skills that every installation has."""

from __future__ import annotations

from gathering_skills.tools import analysis, filesystem, search

SKILLS = (analysis.SKILL, filesystem.SKILL, search.SKILL)
