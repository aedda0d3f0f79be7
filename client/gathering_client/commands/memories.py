"""gathering memories: add, recall, list, share, forget."""

from typing import Annotated

import typer

from gathering.memory.v1 import memory_pb2
from gathering.memory.v1 import memory_service_pb2 as pb
from gathering_client.connection import Gathering
from gathering_client.output import console, print_json, print_table, with_mesh

app = typer.Typer(help="Memories: what agents and you know.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="For programs.")]
Agent = Annotated[str, typer.Option("--agent", help="As this agent; default: as yourself.")]
ScopeText = Annotated[
    str, typer.Option("--scope", help="private, personal, tenant, circle:ID or project:ID.")
]


def parse_scope(text: str, agent_id: str = "") -> memory_pb2.Scope:
    """Read `private`, `personal`, `tenant`, `circle:ID` or `project:ID`."""
    kind, _, scope_id = text.partition(":")
    name = f"SCOPE_KIND_{kind.upper()}"
    if kind not in {"private", "personal", "tenant", "circle", "project"}:
        raise typer.BadParameter(
            f"{text!r} is not private, personal, tenant, circle:ID or project:ID"
        )
    if kind in {"private", "personal"}:
        scope_id = scope_id or agent_id
    return memory_pb2.Scope(kind=memory_pb2.ScopeKind.Value(name), id=scope_id)


@app.command("add")
def add(text: str, scope: ScopeText = "private", agent: Agent = "", as_json: Json = False) -> None:
    """Remember something."""

    async def work(mesh: Gathering) -> None:
        request = pb.RememberRequest(text=text, scope=parse_scope(scope, agent), agent_id=agent)
        stored = await mesh.memories.Remember(request)
        print_json(stored) if as_json else console.print(stored.memory_id)

    with_mesh(work)


@app.command("recall")
def recall(
    query: str,
    agent: Agent = "",
    limit: Annotated[int, typer.Option(min=1, max=100, help="The most hits.")] = 10,
    as_json: Json = False,
) -> None:
    """Find what is known about something, best first."""

    async def work(mesh: Gathering) -> None:
        request = pb.RecallRequest(query=query, agent_id=agent, limit=limit)
        found = await mesh.memories.Recall(request)
        if as_json:
            print_json(found)
            return
        print_table(
            ("score", "words", "meaning", "recency", "memory", "text"),
            [
                (
                    f"{hit.score:.3f}",
                    f"{hit.lexical_score:.2f}",
                    f"{hit.vector_score:.2f}",
                    f"{hit.recency_score:.2f}",
                    hit.memory.memory_id,
                    hit.memory.text,
                )
                for hit in found.hits
            ],
        )

    with_mesh(work)


@app.command("list")
def list_memories(
    agent: Agent = "",
    limit: Annotated[int, typer.Option(min=1, max=200, help="The most.")] = 50,
    as_json: Json = False,
) -> None:
    """List the newest memories."""

    async def work(mesh: Gathering) -> None:
        request = pb.ListMemoriesRequest(page_size=limit, agent_id=agent)
        found = await mesh.memories.ListMemories(request)
        if as_json:
            print_json(found)
            return
        print_table(
            ("memory", "scope", "text"),
            [
                (
                    each.memory_id,
                    memory_pb2.ScopeKind.Name(each.scope.kind).removeprefix("SCOPE_KIND_").lower(),
                    each.text,
                )
                for each in found.memories
            ],
        )

    with_mesh(work)


@app.command("share")
def share(memory_id: str, scope: ScopeText) -> None:
    """Make a memory visible in a wider scope."""

    async def work(mesh: Gathering) -> None:
        request = pb.ShareMemoryRequest(memory_id=memory_id, scope=parse_scope(scope))
        console.print((await mesh.memories.ShareMemory(request)).memory_id)

    with_mesh(work)


@app.command("forget")
def forget(memory_id: str) -> None:
    """Forget a memory for good."""

    async def work(mesh: Gathering) -> None:
        await mesh.memories.ForgetMemory(pb.ForgetMemoryRequest(memory_id=memory_id))
        console.print("Forgotten.")

    with_mesh(work)
