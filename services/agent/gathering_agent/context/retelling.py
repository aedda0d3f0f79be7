"""A digest in words, as long as there is room for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gathering_agent.context.counting import fitting, tokens
from gathering_agent.context.models import Digest, Entry

_WHO = {"user": "user", "assistant": "you"}


def retold(digest: Digest, room: int, *, turns: bool = True) -> str:
    """Return what a digest says, in about so many tokens; `turns`: also turn by turn.

    What there is no room for is counted: the turns between the first and the latest.
    """
    text = "\n".join((_head(digest), *_known(digest)))
    if not turns:
        return fitting(text, room)
    entries = _behind_text(digest)
    lines = [_line(entry) for entry in entries]
    left = room - tokens(text)
    kept: list[str] = []
    for line in reversed(lines):
        left -= tokens(line)
        if left < 0:
            break
        kept.insert(0, line)
    parts = [text, *_first(digest, kept, lines)]
    if kept and not _reaches(digest, entries[-len(kept) :]):
        parts.append(f"Turn by turn only the last {len(kept)} of them:")
    elif digest.text and lines and not kept:
        parts.append("There is no room for the turns after that.")
    parts += kept
    return fitting("\n".join(parts), room)


def _behind_text(digest: Digest) -> Sequence[Entry]:
    """Return the turns that the model's text does not tell of."""
    return [entry for entry in digest.entries if entry.last > digest.text_upto]


def _reaches(digest: Digest, kept: Sequence[Entry]) -> bool:
    """Tell whether turns go on from the model's text, or from the beginning, without a gap."""
    ends = [digest.text_upto, *(entry.last for entry in kept)]
    return all(entry.first <= end + 1 for entry, end in zip(kept, ends, strict=False))


def _first(digest: Digest, kept: Sequence[str], lines: Sequence[str]) -> Iterator[str]:
    """Yield how the session began, if that is not among what is kept."""
    if digest.entries and not digest.text and len(kept) < len(lines):
        yield f"It began with: {_line(digest.entries[0])}"


def _head(digest: Digest) -> str:
    if not digest.messages:
        return "The beginning of this conversation is not shown word by word."
    time = f", {digest.since} to {digest.until} UTC" if digest.since else ""
    return (
        f"The first {digest.messages} messages of this conversation ({digest.turns} turns{time}) "
        "are not shown word by word; this is what they were about."
    )


def _known(digest: Digest) -> Iterator[str]:
    if digest.text:
        yield digest.text
    if digest.statements:
        yield "What was settled, in their words:"
        for one in digest.statements:
            yield f"- {_WHO.get(one.who, one.who)}: {one.text}"
    if digest.tools:
        counts = ", ".join(
            f"{one.tool} {one.calls}x" + (f" ({one.failed} failed)" if one.failed else "")
            for one in digest.tools
        )
        yield f"Tools that you used: {counts}."
    if digest.files:
        yield f"Files that they named, latest last: {', '.join(digest.files)}."


def _line(entry: Entry) -> str:
    used = f" [{', '.join(entry.tools)}]" if entry.tools else ""
    answered = f"you: {entry.answered}" if entry.answered else "not answered"
    asked = f"user: {entry.asked}" if entry.asked else "(went on)"
    return f"- {entry.time} {asked} -> {answered}{used}".replace("  ", " ")
