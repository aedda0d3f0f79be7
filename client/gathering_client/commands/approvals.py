"""gathering approvals: questions of agents, whether a tool may run, and their answers."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from gathering.skills.v1 import execution_service_pb2 as pb
from gathering_client.chatting.questions import AWAITING, decision_words, question_words
from gathering_client.chatting.words import call_words, span_words
from gathering_client.connection import Gathering
from gathering_client.output import console, fail, print_json, print_table, visible, with_mesh
from gathering_client.paging import all_pages

app = typer.Typer(help="Questions of agents, whether a tool may run.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="For programs.")]
Comment = Annotated[str, typer.Option("--comment", help="Kept with the decision.")]


@app.command("list")
def list_questions(
    agent: Annotated[str, typer.Option(help="Only of this agent, by id.")] = "",
    as_json: Json = False,
) -> None:
    """List what waits for an answer: yours, and for administrators everybody's."""

    async def work(mesh: Gathering) -> None:
        request = pb.ListExecutionsRequest(agent_id=agent, state=AWAITING)
        pages = await all_pages(mesh.executions.ListExecutions, request)
        found = [one for page in pages for one in page.executions]
        if as_json:
            print_json(pb.ListExecutionsResponse(executions=found))
            return
        now = datetime.now(UTC)
        print_table(
            ("execution", "agent", "for", "what"),
            [
                (
                    one.execution_id,
                    one.agent_id,
                    span_words(one.approval.expire_time.ToDatetime(UTC) - now),
                    call_words(one.tool, one.arguments),
                )
                for one in found
            ],
        )

    with_mesh(work)


@app.command("show")
def show(execution_id: str, as_json: Json = False) -> None:
    """Show a question whole, with the digest that binds an answer to it."""

    async def work(mesh: Gathering) -> None:
        request = pb.GetExecutionRequest(execution_id=execution_id)
        found = await mesh.executions.GetExecution(request)
        if as_json:
            print_json(found)
        elif found.state == AWAITING:
            console.print(question_words(found), markup=False)
            console.print(f"for agent {found.agent_id}, turn {found.turn_id}")
            console.print(f"digest {found.approval.digest}")
        else:
            console.print(decision_words(found), markup=False)

    with_mesh(work)


@app.command("approve")
def approve(
    execution_id: str,
    digest: Annotated[str, typer.Option(help="Of what was read; default: you are asked.")] = "",
    comment: Comment = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Let a tool run."""

    async def work(mesh: Gathering) -> None:
        read = digest or await _digest(mesh, execution_id)
        if not (digest or yes):
            typer.confirm("Let it run?", abort=True)
        request = pb.ApproveExecutionRequest(
            execution_id=execution_id, digest=read, comment=comment
        )
        await mesh.executions.ApproveExecution(request)
        console.print("Approved.")

    with_mesh(work)


@app.command("deny")
def deny(
    execution_id: str,
    reason: Annotated[str, typer.Argument(help="The agent is told.")] = "",
    digest: Annotated[str, typer.Option(help="Of what was read; default: as it is now.")] = "",
) -> None:
    """Refuse a tool; the agent goes on without it."""

    async def work(mesh: Gathering) -> None:
        request = pb.DenyExecutionRequest(
            execution_id=execution_id,
            digest=digest or await _digest(mesh, execution_id),
            comment=reason,
        )
        await mesh.executions.DenyExecution(request)
        console.print("Denied.")

    with_mesh(work)


async def _digest(mesh: Gathering, execution_id: str) -> str:
    """Return the digest of a question, which is shown first."""
    request = pb.GetExecutionRequest(execution_id=execution_id)
    found = await mesh.executions.GetExecution(request)
    if not found.HasField("approval"):
        fail(f"{visible(found.tool)} asked nobody.")
    console.print(question_words(found) if found.state == AWAITING else "", markup=False)
    return found.approval.digest
