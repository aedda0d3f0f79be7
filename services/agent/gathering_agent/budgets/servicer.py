"""BudgetService."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from gathering.agent.v1 import budget_pb2, budget_service_pb2
from gathering_agent.budgets.budgets import Budgets, Wanted
from gathering_agent.budgets.convert import (
    budget_message,
    caps_of,
    level_of,
    usage_message,
    usage_query,
)
from gathering_agent.budgets.models import BudgetFilter, Level, Subject
from gathering_agent.budgets.models_usage import After, Period, UsageQuery, UsageRow
from gathering_agent.budgets.usage import UsageReport, period_of
from gathering_mesh.call import Call
from gathering_mesh.paging import (
    Key,
    decode_token,
    encode_token,
    page_size,
    query_fingerprint,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = 10**16  # microseconds


class BudgetServicer:
    """Serves `gathering.agent.v1.BudgetService`."""

    def __init__(self, budgets: Budgets, usage: UsageReport) -> None:
        self._budgets = budgets
        self._usage = usage

    async def SetBudget(
        self, request: budget_service_pb2.SetBudgetRequest, call: Call
    ) -> budget_pb2.Budget:
        """Set a budget."""
        level = level_of(request.level) or Level.TURN  # required: it is there
        wanted = Wanted(
            Subject(level, request.subject_id),
            caps_of(request.caps),
            request.parent_task_id,
            request.etag,
        )
        return budget_message(await self._budgets.set(call, wanted))

    async def GetBudget(
        self, request: budget_service_pb2.GetBudgetRequest, call: Call
    ) -> budget_pb2.Budget:
        """Return a budget."""
        return budget_message(await self._budgets.get(call, request.budget_id))

    async def ListBudgets(
        self, request: budget_service_pb2.ListBudgetsRequest, call: Call
    ) -> budget_service_pb2.ListBudgetsResponse:
        """Return a page of budgets."""
        size = page_size(request.page_size)
        which = BudgetFilter(level_of(request.level), request.subject_id)
        query = query_fingerprint(call.method, call.tenant, call.user, which)
        key = decode_token(query, request.page_token)
        found = await self._budgets.page(
            call, which, before=str(key[0]) if key else "", limit=size + 1
        )
        page = found[:size]
        return budget_service_pb2.ListBudgetsResponse(
            budgets=map(budget_message, page),
            next_page_token=encode_token(query, [page[-1].id]) if len(found) > size else "",
        )

    async def DeleteBudget(
        self, request: budget_service_pb2.DeleteBudgetRequest, call: Call
    ) -> budget_pb2.Budget:
        """Delete a budget."""
        return budget_message(await self._budgets.delete(call, request.budget_id))

    async def GetUsage(
        self, request: budget_service_pb2.GetUsageRequest, call: Call
    ) -> budget_service_pb2.GetUsageResponse:
        """Return a page of usage."""
        size = page_size(request.page_size)
        asked = usage_query(request)
        start, end = (_moment(request, name) for name in ("start_time", "end_time"))
        query = query_fingerprint(call.method, call.tenant, call.user, asked, start, end)
        place = _place(asked, query, request.page_token)
        period, after = place or (period_of(start, end), None)
        found = await self._usage.page(call, asked, period, after, size + 1)
        page = found[:size]
        return budget_service_pb2.GetUsageResponse(
            rows=(usage_message(row, asked.dimensions) for row in page),
            next_page_token=(
                encode_token(query, _key(period, page[-1])) if len(found) > size else ""
            ),
        )


def _moment(request: budget_service_pb2.GetUsageRequest, name: str) -> datetime | None:
    stamp: Timestamp = getattr(request, name)
    return stamp.ToDatetime(UTC) if request.HasField(name) else None  # type: ignore[arg-type]


def _key(period: Period, row: UsageRow) -> list[Key]:
    times = (period.start, period.end, *([row.time] if row.time else []))
    return [*(round(time.timestamp() * 1_000_000) for time in times), *row.names]


def _place(asked: UsageQuery, query: bytes, token: str) -> tuple[Period, After] | None:
    kinds: list[type[Key]] = [int] * (3 if asked.bucket else 2)
    key = decode_token(query, token, kinds + [str] * len(asked.dimensions))
    if key is None:
        return None
    start, end, *times = (_time(one) for one in key if isinstance(one, int))
    names = tuple(one for one in key if isinstance(one, str))
    return Period(start, end), After(times[0] if times else None, names)


def _time(microseconds: int) -> datetime:
    """Return a moment of a token, which anybody may have made up."""
    return _EPOCH + timedelta(microseconds=min(max(microseconds, 0), _LATEST))
