"""A model of the catalogue, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

OFFLINE = "offline"  # the provider that is a part of this service
_TOKENS_PER_PRICE = 1_000_000


@dataclass(frozen=True, slots=True)
class Prices:
    """Micro-USD per million tokens; None: not known.

    Of the input, `cached` is what came from the provider's cache and `cache_write` what was put
    there. Where these are not known they cost at least what other input does.
    """

    input: int | None = None
    output: int | None = None
    cached: int | None = None
    cache_write: int | None = None

    @property
    def dearest_input(self) -> int | None:
        """Return what a token of the input costs at most; None where that is not known."""
        if self.input is None:
            return None
        return max(self.input, self.cached or 0, self.cache_write or 0)

    def most(self, input_tokens: int, output_tokens: int) -> int | None:
        """Return the most that a call may cost, in micro-USD; None where a price is not known."""
        if self.dearest_input is None or self.output is None:
            return None
        total = input_tokens * self.dearest_input + output_tokens * self.output
        return -(-total // _TOKENS_PER_PRICE)

    def cost(
        self, input_tokens: int, output_tokens: int, cached: int = 0, written: int = 0
    ) -> int | None:
        """Return micro-USD, rounded up; None where a price that matters is not known.

        `cached` and `written` are the parts of `input_tokens` that the cache gave and took.
        """
        plain = input_tokens - cached - written
        parts = (
            (plain, self.input),
            (cached, self.input if self.cached is None else self.cached),
            (written, self.input if self.cache_write is None else self.cache_write),
            (output_tokens, self.output),
        )
        if any(price is None for count, price in parts if count):
            return None
        return -(-sum(count * (price or 0) for count, price in parts) // _TOKENS_PER_PRICE)


class Capability(StrEnum):
    """What a model can do."""

    STREAMING = "streaming"
    TOOLS = "tools"
    IMAGES = "images"
    STRUCTURED_OUTPUT = "structured_output"
    REASONING = "reasoning"
    PROMPT_CACHE = "prompt_cache"


@dataclass(frozen=True, slots=True)
class Model:
    """A model; `wire_name` is what its provider calls it."""

    name: str
    provider: str
    wire_name: str
    context_window_tokens: int
    max_output_tokens: int
    prices: Prices = Prices()
    image_tokens: int = 0  # that a picture costs at most; 0: it takes none
    capabilities: tuple[Capability, ...] = ()

    @property
    def remote(self) -> bool:
        """Tell whether it is called over a network."""
        return self.provider != OFFLINE
