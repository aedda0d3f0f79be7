"""gathering tasks: create, list, show, watch, cancel, review."""

from typing import Annotated

import typer
from rich.markup import escape

from gathering.orchestrator.v1 import task_pb2
from gathering.orchestrator.v1 import task_service_pb2 as pb
from gathering_client.connection import Gathering
from gathering_client.output import clock, console, print_json, print_table, with_mesh, word
from gathering_client.paging import all_pages
from gathering_client.streams import follow_task

app = typer.Typer(help="Tasks: work for circles.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="For programs.")]
_VERDICTS = {
    "approve": task_pb2.REVIEW_VERDICT_APPROVED,
    "changes": task_pb2.REVIEW_VERDICT_CHANGES_REQUESTED,
    "reject": task_pb2.REVIEW_VERDICT_REJECTED,
}


@app.command("create")
def create(  # noqa: PLR0917 - typer makes options of them
    circle_id: str,
    title: Annotated[str, typer.Argument(help="What is to be done, in a line.")],
    description: Annotated[str, typer.Option(help="At length.")] = "",
    criterion: Annotated[
        list[str] | None, typer.Option(help="What the work is checked against; repeatable.")
    ] = None,
    competence: Annotated[list[str] | None, typer.Option(help="Asked for; repeatable.")] = None,
    priority: Annotated[int, typer.Option(min=1, max=10, help="1 is most urgent.")] = 5,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it to its end.")] = False,
    as_json: Json = False,
) -> None:
    """Give a task to a circle."""

    async def work(mesh: Gathering) -> None:
        request = pb.CreateTaskRequest(
            circle_id=circle_id,
            title=title,
            description=description,
            acceptance_criteria=criterion or (),
            required_competences=competence or (),
            priority=priority,
        )
        created = await mesh.tasks.CreateTask(request)
        print_json(created) if as_json else console.print(created.task_id)
        if watch:
            await _watch(mesh, created.task_id, as_json=as_json)

    with_mesh(work)


@app.command("list")
def list_tasks(
    circle: Annotated[str, typer.Option(help="Only those of this circle.")] = "",
    as_json: Json = False,
) -> None:
    """List the tasks, newest first."""

    async def work(mesh: Gathering) -> None:
        pages = await all_pages(mesh.tasks.ListTasks, pb.ListTasksRequest(circle_id=circle))
        found = [task for page in pages for task in page.tasks]
        if as_json:
            print_json(pb.ListTasksResponse(tasks=found))
            return
        print_table(
            ("task", "title", "state", "round", "agent"),
            [
                (task.task_id, task.title, state(task), str(task.round), task.assigned_agent_id)
                for task in found
            ],
        )

    with_mesh(work)


@app.command("show")
def show(task_id: str, as_json: Json = False) -> None:
    """Show a task with its offers, reviews and artifacts."""

    async def work(mesh: Gathering) -> None:
        task = await mesh.tasks.GetTask(pb.GetTaskRequest(task_id=task_id))
        print_json(task) if as_json else print_task(task)

    with_mesh(work)


@app.command("watch")
def watch(task_id: str, as_json: Json = False) -> None:
    """Follow a task to its end."""

    async def work(mesh: Gathering) -> None:
        await _watch(mesh, task_id, as_json=as_json)

    with_mesh(work)


@app.command("cancel")
def cancel(task_id: str) -> None:
    """Cancel a task."""

    async def work(mesh: Gathering) -> None:
        console.print(state(await mesh.tasks.CancelTask(pb.CancelTaskRequest(task_id=task_id))))

    with_mesh(work)


@app.command("review")
def review(
    task_id: str,
    verdict: Annotated[str, typer.Argument(help="approve, changes or reject.")],
    comment: Annotated[str, typer.Option(help="In words.")] = "",
) -> None:
    """Decide on a task that was escalated to a human."""
    if verdict not in _VERDICTS:
        raise typer.BadParameter(f"{verdict!r} is none of {', '.join(_VERDICTS)}")

    async def work(mesh: Gathering) -> None:
        request = pb.SubmitReviewRequest(
            task_id=task_id, verdict=_VERDICTS[verdict], comment=comment
        )
        console.print(state(await mesh.tasks.SubmitReview(request)))

    with_mesh(work)


async def _watch(mesh: Gathering, task_id: str, *, as_json: bool) -> None:
    last = None
    async for task in follow_task(mesh, task_id):
        last = task
        if as_json:
            print_json(task, line=True)
        else:
            console.print(f"{clock(task.update_time)}  {state(task)}")
    if last is not None and not as_json:
        print_task(last)


def state(task: task_pb2.Task) -> str:
    """Return a task's state as words."""
    return word(task_pb2.TaskState.Name(task.state))


def print_task(task: task_pb2.Task) -> None:
    """Print a task for people."""
    console.print(f"[bold]{escape(task.title)}[/]  {state(task)}, round {task.round}")
    if task.state_message:
        console.print(f"  {task.state_message}", markup=False)
    for offer in task.offers:
        parts = ", ".join(
            f"{part.name} {part.value:.2f} x {part.weight:.2f}" for part in offer.score_parts
        )
        answer = word(task_pb2.OfferState.Name(offer.state))
        console.print(
            f"  offer   {offer.agent_name}: {offer.score:.3f} ({parts}): {answer}", markup=False
        )
        if offer.message:
            console.print(f"          {offer.message}", markup=False)
    for given in task.reviews:
        verdict = task_pb2.ReviewVerdict.Name(given.verdict).removeprefix("REVIEW_VERDICT_")
        who = given.reviewer_name or given.reviewer_user_id
        said = verdict.lower().replace("_", " ")
        console.print(f"  review  {who}, round {given.round}: {said}", markup=False)
        for criterion in given.criteria:
            mark = "met    " if criterion.met else "not met"
            console.print(f"          {mark} {criterion.criterion}", markup=False)
            console.print(f"                  {criterion.evidence}", style="dim", markup=False)
    for artifact in task.artifacts:
        console.print(
            f"  file    {artifact.path}  {artifact.size_bytes} bytes  {artifact.sha256}",
            markup=False,
        )
