"""What a workspace is the home of, in words for a model."""

from __future__ import annotations

from collections.abc import Iterator

from gathering_agent.context.models import Project


def told(project: Project) -> str:
    """Return a project in words, what matters most first; empty where nothing is known."""
    return "\n".join(_lines(project))


def _lines(project: Project) -> Iterator[str]:
    if project.name or project.description:
        yield ": ".join(part for part in (project.name, project.description) if part)
    for title, words in (
        ("Conventions", "; ".join(project.conventions)),
        ("Notes", project.notes),
        ("Read first", ", ".join(project.key_files)),
        ("Tools", ", ".join(project.tools)),
        ("Python", " in ".join(p for p in (project.python_version, project.venv_path) if p)),
        ("Branch", " of ".join(p for p in (project.git_branch, project.git_remote) if p)),
    ):
        if words:
            yield f"{title}: {words}"
    if project.commands:
        yield "Commands:"
        yield from (f"- {name}: {line}" for name, line in project.commands)
    if project.tree:
        yield f"Files:\n{project.tree}"
