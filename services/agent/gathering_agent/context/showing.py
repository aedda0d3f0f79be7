"""Which pictures of a session a model sees in a call; of the others it is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gathering_agent.models import Message
from gathering_agent.providers.models_catalogue import Model
from gathering_agent.sessions.models_images import MOST_SHOWN


def shown(history: Sequence[Message], model: Model) -> Sequence[Message]:
    """Return messages with the images that the model sees; the texts name those that it does not.

    These are the latest of the session, as far as they were loaded, where the model takes any.
    """
    if not any(message.images for message in history):
        return history
    room = MOST_SHOWN if model.image_tokens else 0
    found: list[Message] = []
    for message in reversed(history):
        room -= len(message.images)
        found.append(_shown(message, model.image_tokens, seen=room >= 0))
    return found[::-1]


def _shown(message: Message, tokens: int, *, seen: bool) -> Message:
    kept = tuple(replace(one, tokens=tokens) for one in message.images if one.data and seen)
    why = "no longer shown" if tokens else "which you cannot see"
    hidden = [one for one in message.images if not (one.data and seen)]
    notes = [f"[An image, {one}, {why}.]" for one in hidden]
    return replace(message, images=kept, text="\n".join([*notes, message.text]))
