"""Frames of a log on their way: entries that are there at once travel in one.

Each message of a stream costs both its ends several times what is in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gathering.events.v1.event_log_service_pb2 import LogEntries, LogEntry, TailResponse

_BYTES = 256 * 1024  # of a frame; one large entry goes by itself


def joined(frames: Sequence[TailResponse]) -> Iterator[TailResponse]:
    """Yield frames with entries that follow one another in one."""
    found: list[LogEntry] = []
    size = 0
    for frame in frames:
        is_entry = frame.HasField("entry")
        size += frame.ByteSize()
        if found and (size > _BYTES or not is_entry):
            yield _of(found)
            found, size = [], frame.ByteSize()
        if is_entry:
            found.append(frame.entry)
        else:
            yield frame
    if found:
        yield _of(found)


def parted(frame: TailResponse) -> Iterator[TailResponse]:
    """Yield a frame, or one for each of its entries."""
    if frame.HasField("entries"):
        yield from (TailResponse(entry=entry) for entry in frame.entries.entries)
    else:
        yield frame


def _of(entries: Sequence[LogEntry]) -> TailResponse:
    if len(entries) == 1:
        return TailResponse(entry=entries[0])
    return TailResponse(entries=LogEntries(entries=entries))
