"""What the verbs need of histories as a whole, their digests, and what went into prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gathering_agent.context.models import Brief, Digest, TurnContext
from gathering_agent.models import Message
from gathering_agent.remembering.models import Finding
from gathering_mesh.postgres import Transaction


class HistoryRows(Protocol):
    """What was said in sessions of the transaction's tenant, as a whole."""

    async def place(self, tx: Transaction, session_id: str, message_id: str) -> int:
        """Return the sequence of a message of a session; MessageNotFound."""

    async def copy(self, tx: Transaction, source: str, target: str, upto: int) -> None:
        """Add a session's messages up to a sequence to a new one, whose row tells of them."""

    async def images(
        self, tx: Transaction, messages: list[Message], *, latest: bool = False
    ) -> list[Message]:
        """Return messages with the data of all their images, or of the latest that are shown."""

    async def add(self, tx: Transaction, messages: Sequence[Message]) -> None:
        """Add messages with their sequences to a new session, whose row tells of them."""

    async def erase(self, tx: Transaction, session_id: str) -> None:
        """Delete a session's messages and rights, and every text of it and its turns."""


class DigestRows(Protocol):
    """Digests of the transaction's tenant's sessions. They are added and never changed."""

    async def nearest(self, tx: Transaction, session_id: str, upto: int) -> Digest | None:
        """Return the last digest of a session that reaches no further, None if there is none."""

    async def add(self, tx: Transaction, session_id: str, digest: Digest) -> None:
        """Keep a digest, once for each sequence; the session names its newest."""

    async def briefs(
        self, tx: Transaction, session_id: str, *, after: int, upto: int, limit: int
    ) -> Sequence[Brief]:
        """Return messages of a session, as far as a digest needs them, oldest first."""

    async def report(self, tx: Transaction, turn_id: str, step: int) -> TurnContext | None:
        """Return what went into the prompt of a step (0: the last); None where that is not kept."""


class FindingRows(Protocol):
    """What was found worth remembering of turns, until it is remembered."""

    async def get(self, tx: Transaction, turn_id: str) -> list[Finding] | None:
        """Return what was found of a turn; None: nobody has looked."""

    async def put(self, tx: Transaction, turn_id: str, findings: Sequence[Finding]) -> None:
        """Keep what was found of a turn."""

    async def drop(self, tx: Transaction, turn_id: str) -> None:
        """Forget what was found of a turn."""
