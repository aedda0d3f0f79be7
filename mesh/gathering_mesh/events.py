"""The base of what services tell each other: pure values, declared beside each service's models."""

from __future__ import annotations

import re
from dataclasses import dataclass

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True)
class DomainEvent:
    """Something that happened; subclasses are frozen dataclasses.

    The class is named like its message in `gathering.events.v1`, the attributes like that
    message's fields. Lists are tuples, nested messages are frozen dataclasses, None is absent. It
    carries ids, names, states, scores and hashes, never content.
    """

    @classmethod
    def event_type(cls) -> str:
        """Return the payload's name in the envelope, such as `task_created`."""
        return _WORD_START.sub("_", cls.__name__).lower()
