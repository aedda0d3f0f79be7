"""Pictures of messages."""

from __future__ import annotations

from dataclasses import dataclass, field

MOST_IMAGES = 8  # of a message
MOST_IMAGE_BYTES = 2_500_000  # of a message's images together
MOST_SHOWN = 20  # of a session; Anthropic takes no large ones where there are more
MOST_PIXELS = 8_000  # a side; what providers take


@dataclass(frozen=True, slots=True)
class Image:
    """A picture. `data` is empty where it was not loaded.

    `tokens` bounds what it costs the model that it is shown to.
    """

    media_type: str
    width: int
    height: int
    size: int
    data: bytes = field(default=b"", repr=False)
    tokens: int = 0

    def __str__(self) -> str:
        """Say what it is."""
        return f"{self.media_type}, {self.width}x{self.height}"
