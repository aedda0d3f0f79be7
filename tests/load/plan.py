"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Rounds of each comparison and, for a quick look, a fifth of the work in each."""

    quick: bool = False

    @property
    def rounds(self) -> int:
        """Return how often each side has its turn."""
        return 3 if self.quick else 7

    def count(self, usual: int) -> int:
        """Return how many pieces of work a round has."""
        return max(20, usual // 5) if self.quick else usual
