"""What the rules of the offline model come to."""

from __future__ import annotations

from dataclasses import dataclass

from gathering_agent.models import JsonObject


@dataclass(frozen=True, slots=True)
class Thought:
    """A text, and tools to call with their arguments."""

    text: str
    calls: tuple[tuple[str, JsonObject], ...] = ()
