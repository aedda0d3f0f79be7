"""Agents: who they are, versions of their definitions, templates."""
