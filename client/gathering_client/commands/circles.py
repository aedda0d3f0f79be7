"""gathering circles: create, list, show, add, remove."""

from typing import Annotated

import typer

from gathering.orchestrator.v1 import circle_pb2
from gathering.orchestrator.v1 import circle_service_pb2 as pb
from gathering_client.connection import Gathering
from gathering_client.output import console, print_json, print_table, with_mesh
from gathering_client.paging import all_pages

app = typer.Typer(help="Circles: agents that work together.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="The name to show.")],
    member: Annotated[list[str] | None, typer.Option(help="An agent's id; repeatable.")] = None,
    purpose: Annotated[str, typer.Option(help="What it is for.")] = "",
    workspace: Annotated[str, typer.Option(help="A workspace's id.")] = "",
    as_json: Json = False,
) -> None:
    """Create a circle."""

    async def work(mesh: Gathering) -> None:
        request = pb.CreateCircleRequest(
            circle=circle_pb2.Circle(name=name, purpose=purpose, workspace_id=workspace),
            members=[circle_pb2.Member(agent_id=agent_id) for agent_id in member or ()],
        )
        created = await mesh.circles.CreateCircle(request)
        print_json(created) if as_json else console.print(created.circle_id)

    with_mesh(work)


@app.command("list")
def list_circles(as_json: Json = False) -> None:
    """List the circles, newest first."""

    async def work(mesh: Gathering) -> None:
        pages = await all_pages(mesh.circles.ListCircles, pb.ListCirclesRequest())
        found = [circle for page in pages for circle in page.circles]
        if as_json:
            print_json(pb.ListCirclesResponse(circles=found))
            return
        print_table(
            ("circle", "name", "purpose", "workspace"),
            [(each.circle_id, each.name, each.purpose, each.workspace_id) for each in found],
        )

    with_mesh(work)


@app.command("show")
def show(circle_id: str, as_json: Json = False) -> None:
    """Show a circle's members and how each has done."""

    async def work(mesh: Gathering) -> None:
        circle = await mesh.circles.GetCircle(pb.GetCircleRequest(circle_id=circle_id))
        members = await mesh.circles.ListMembers(pb.ListMembersRequest(circle_id=circle_id))
        if as_json:
            print_json(circle)
            print_json(members)
            return
        line = f"{circle.name}: {circle.purpose}" if circle.purpose else circle.name
        console.print(line, markup=False)
        print_table(
            ("agent", "name", "competences", "open", "done", "failed", "approved", "quality"),
            [_row(member) for member in members.members],
        )

    with_mesh(work)


def _row(member: circle_pb2.Member) -> tuple[str, ...]:
    metrics = member.metrics
    return (
        member.agent_id,
        member.name,
        ", ".join(f"{each.name} {each.strength:.2g}" for each in member.competences),
        str(metrics.open_task_count),
        str(metrics.completed_task_count),
        str(metrics.failed_task_count),
        f"{metrics.approval_rate:.0%} of {metrics.review_count}",
        f"{metrics.quality:.2f}",
    )


@app.command("add")
def add(circle_id: str, agent_id: str) -> None:
    """Add an agent to a circle."""

    async def work(mesh: Gathering) -> None:
        member = circle_pb2.Member(agent_id=agent_id)
        await mesh.circles.AddMember(pb.AddMemberRequest(circle_id=circle_id, member=member))
        console.print("Added.")

    with_mesh(work)


@app.command("remove")
def remove(circle_id: str, agent_id: str) -> None:
    """Remove an agent from a circle."""

    async def work(mesh: Gathering) -> None:
        await mesh.circles.RemoveMember(
            pb.RemoveMemberRequest(circle_id=circle_id, agent_id=agent_id)
        )
        console.print("Removed.")

    with_mesh(work)
