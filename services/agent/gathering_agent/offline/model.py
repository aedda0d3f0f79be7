"""Where the rules begin: a task to work on, work to review, or a chat."""

from __future__ import annotations

from gathering_agent.offline import assignment, story
from gathering_agent.offline.chatting import chat
from gathering_agent.offline.models_outcomes import Thought
from gathering_agent.offline.results import fitted
from gathering_agent.offline.reviewing import review
from gathering_agent.offline.story import SUBMIT, Story
from gathering_agent.offline.working import work
from gathering_agent.providers.models_dialogue import ModelRequest


def think(request: ModelRequest) -> Thought:
    """Return the next step of a turn, as it follows from what was said and done so far."""
    told = story.read(request)
    if assignment.is_assignment(told.asked) and told.schema is not None:
        task = assignment.read(told.asked)
        return review(task, told) if _wants_verdict(told) else work(task, told)
    thought = chat(told)
    if told.schema is None or thought.calls:
        return thought
    result = fitted(told.schema, {"summary": thought.text}, thought.text)
    return Thought(thought.text, ((SUBMIT, result),))


def _wants_verdict(told: Story) -> bool:
    properties = told.schema.get("properties") if told.schema else None
    return isinstance(properties, dict) and "verdict" in properties
