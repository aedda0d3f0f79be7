"""gathering budgets: set, list, delete; gathering usage."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer

from gathering.agent.v1 import budget_pb2
from gathering.agent.v1 import budget_service_pb2 as pb
from gathering_client.connection import Gathering
from gathering_client.output import console, print_json, print_table, with_mesh
from gathering_client.paging import all_pages

app = typer.Typer(help="Budgets: what models may use.", no_args_is_help=True)
usage_app = typer.Typer()
Json = Annotated[bool, typer.Option("--json", help="For programs.")]
_MICRO = 1_000_000
_LEVELS = {
    "agt": budget_pb2.BUDGET_LEVEL_AGENT,
    "ses": budget_pb2.BUDGET_LEVEL_SESSION,
    "tsk": budget_pb2.BUDGET_LEVEL_TASK,
}
_DIMENSIONS = {"agent": "agent_id", "model": "model", "task": "task_id", "session": "session_id",
               "user": "user_id"}  # fmt: skip


@app.command("set")
def set_budget(
    subject: Annotated[str, typer.Argument(help="`tenant`, or the id of an agent, session, task.")],
    tokens: Annotated[int | None, typer.Option(min=0, help="Read and written.")] = None,
    usd: Annotated[str, typer.Option(help="Dollars, such as 2.50.")] = "",
    calls: Annotated[int | None, typer.Option(min=0, help="Of models.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="From the first set on.")] = None,
) -> None:
    """Set the caps of a budget, all at once; what is left out is not capped."""
    caps = budget_pb2.BudgetCaps(
        max_tokens=tokens, max_cost_micro_usd=micro(usd), max_model_calls=calls
    )
    if seconds is not None:
        caps.max_wall_time.FromTimedelta(timedelta(seconds=seconds))
    request = pb.SetBudgetRequest(level=level_of(subject), caps=caps)
    if subject != "tenant":
        request.subject_id = subject

    async def work(mesh: Gathering) -> None:
        console.print((await mesh.budgets.SetBudget(request)).budget_id)

    with_mesh(work)


def level_of(subject: str) -> budget_pb2.BudgetLevel.ValueType:
    """Return the level of a subject: `tenant`, or an id by its prefix."""
    if subject == "tenant":
        return budget_pb2.BUDGET_LEVEL_TENANT
    level = _LEVELS.get(subject.partition("_")[0])
    if level is None:
        raise typer.BadParameter(f"{subject!r} is not `tenant` nor an id (agt_, ses_, tsk_)")
    return level


def micro(usd: str) -> int | None:
    """Return dollars as millionths, None for nothing."""
    if not usd:
        return None
    try:
        amount = Decimal(usd) * _MICRO
        if not amount.is_finite() or amount < 0 or amount != amount.to_integral_value():
            raise typer.BadParameter(f"{usd!r} is not an amount of dollars")
    except InvalidOperation:
        raise typer.BadParameter(f"{usd!r} is not an amount of dollars") from None
    return int(amount)


def dollars(millionths: int) -> str:
    """Return millionths of a dollar for people."""
    return f"${Decimal(millionths) / _MICRO:.6f}"


@app.command("list")
def list_budgets(as_json: Json = False) -> None:
    """List the budgets, newest first, with what is spent and what calls in flight hold."""

    async def work(mesh: Gathering) -> None:
        pages = await all_pages(mesh.budgets.ListBudgets, pb.ListBudgetsRequest())
        found = [budget for page in pages for budget in page.budgets]
        if as_json:
            print_json(pb.ListBudgetsResponse(budgets=found))
            return
        print_table(("budget", "of", "tokens", "money", "calls", "seconds"), map(_row, found))

    with_mesh(work)


def _row(budget: budget_pb2.Budget) -> tuple[str, ...]:
    caps, spent, held = budget.caps, budget.spent, budget.reserved
    level = budget_pb2.BudgetLevel.Name(budget.level).removeprefix("BUDGET_LEVEL_").lower()
    wall_time = f"{caps.max_wall_time.ToTimedelta().total_seconds():g}"
    return (
        budget.budget_id,
        budget.subject_id or level,
        _of(str(spent.tokens + held.tokens), str(caps.max_tokens), caps.HasField("max_tokens")),
        _of(
            dollars(spent.cost_micro_usd + held.cost_micro_usd),
            dollars(caps.max_cost_micro_usd),
            caps.HasField("max_cost_micro_usd"),
        ),
        _of(
            str(spent.model_calls + held.model_calls),
            str(caps.max_model_calls),
            caps.HasField("max_model_calls"),
        ),
        wall_time if caps.HasField("max_wall_time") else "",
    )


def _of(used: str, cap: str, capped: bool) -> str:
    return f"{used} of {cap}" if capped else used


@app.command("delete")
def delete(budget_id: str) -> None:
    """Delete a budget: it bounds nothing any more."""

    async def work(mesh: Gathering) -> None:
        await mesh.budgets.DeleteBudget(pb.DeleteBudgetRequest(budget_id=budget_id))
        console.print("Deleted.")

    with_mesh(work)


@usage_app.command("usage")
def usage(
    by: Annotated[
        list[str] | None, typer.Option(help="agent, model, task, session, user; may be repeated.")
    ] = None,
    each: Annotated[str, typer.Option(help="hour, day or month; default: all in one.")] = "",
    days: Annotated[float, typer.Option(min=0.001, help="How far back.")] = 30.0,
    as_json: Json = False,
) -> None:
    """Tell what models used and cost."""
    names = [name for name in _DIMENSIONS if name in (by or ())]
    if set(by or ()) - set(names) or each not in {"", "hour", "day", "month"}:
        raise typer.BadParameter("see --help for what usage is told by")
    request = pb.GetUsageRequest(
        group_by=[pb.UsageDimension.Value(f"USAGE_DIMENSION_{name.upper()}") for name in names],
        bucket=pb.UsageBucket.Value(f"USAGE_BUCKET_{each.upper() or 'UNSPECIFIED'}"),
    )
    request.start_time.FromDatetime(datetime.now(UTC) - timedelta(days=days))

    async def work(mesh: Gathering) -> None:
        pages = await all_pages(mesh.budgets.GetUsage, request)
        rows = [row for page in pages for row in page.rows]
        if as_json:
            print_json(pb.GetUsageResponse(rows=rows))
            return
        _print_usage(rows, names, timed=bool(each))

    with_mesh(work)


def _print_usage(rows: Iterable[pb.UsageRow], names: list[str], *, timed: bool) -> None:
    columns = (*(["from (UTC)"] if timed else []), *names, "calls", "failed", "read", "cached",
               "written", "cost")  # fmt: skip
    print_table(
        columns,
        [
            (
                *([row.bucket_time.ToDatetime(UTC).strftime("%Y-%m-%d %H:%M")] if timed else []),
                *(getattr(row, _DIMENSIONS[name]) for name in names),
                str(row.model_call_count),
                str(row.failed_call_count),
                str(row.input_token_count),
                str(row.cached_input_token_count),
                str(row.output_token_count),
                dollars(row.cost_micro_usd) + ("+?" if row.unpriced_call_count else ""),
            )
            for row in rows
        ],
    )
