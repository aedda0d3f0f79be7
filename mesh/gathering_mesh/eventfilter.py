"""Who may see an entry of the log and who asked for it: every reader goes by this one function."""

from __future__ import annotations

from dataclasses import dataclass

from gathering.events.v1.event_log_service_pb2 import LogEntry


@dataclass(frozen=True, slots=True)
class EventFilter:
    """What a reader gets; the default is everything, for services reading each other's logs.

    A reader on behalf of somebody names `tenant` and `user`: events with an audience reach those
    in it and administrators. `types` (such as `task_created`) and `subjects` (ids) narrow it.
    """

    tenant: str | None = None
    user: str | None = None
    administrator: bool = False
    types: frozenset[str] = frozenset()
    subjects: frozenset[str] = frozenset()

    def admits(self, entry: LogEntry) -> bool:
        """Tell whether the reader may see the entry and asked for it."""
        return self._may_see(entry) and self._asked_for(entry)

    def _may_see(self, entry: LogEntry) -> bool:
        if self.tenant is not None and entry.tenant_id != self.tenant:
            return False
        audience = entry.event.audience.user_ids
        return not audience or self.user is None or self.administrator or self.user in audience

    def _asked_for(self, entry: LogEntry) -> bool:
        if self.types and entry.event.type not in self.types:
            return False
        return not self.subjects or not self.subjects.isdisjoint(entry.event.subject_ids)
