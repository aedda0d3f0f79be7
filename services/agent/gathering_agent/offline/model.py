"""Where the rules begin."""

from __future__ import annotations

from gathering_agent.models_dialogue import ModelRequest
from gathering_agent.models_offline import Thought

SIGNATURE = "(Answered by the offline model, which is rule-based.)"


def think(request: ModelRequest) -> Thought:
    """Answer a request by rules."""
    return Thought(f"You said: {request.messages[-1].text}\n\n{SIGNATURE}")
