"""gathering memories: add, recall, list, show, share, forget."""

from typing import Annotated

import typer

from gathering.memory.v1 import memory_pb2
from gathering.memory.v1 import memory_service_pb2 as pb
from gathering_client.connection import Gathering
from gathering_client.naming import agent_id_of
from gathering_client.output import console, print_json, print_table, visible, with_mesh
from gathering_client.paging import PAGE_SIZE

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
    agent: Annotated[
        str, typer.Option("--agent", help="That this agent remembered, by id or name.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, max=200, help="The most.")] = 50,
    superseded: Annotated[
        bool, typer.Option("--all", help="Also those in whose place others came.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the newest memories."""

    async def work(mesh: Gathering) -> None:
        agent_id = await agent_id_of(mesh, agent, archived=True) if agent else ""
        found = await _newest(mesh, agent_id, limit, superseded=superseded)
        if as_json:
            print_json(pb.ListMemoriesResponse(memories=found))
            return
        print_table(
            ("memory", "scope", "type", "weight", "text"),
            [
                (
                    each.memory_id,
                    _scope(each),
                    _kind(each),
                    f"{each.importance:.2g}",
                    visible(each.text),
                )
                for each in found
            ],
        )

    with_mesh(work)


async def _newest(
    mesh: Gathering, agent_id: str, limit: int, *, superseded: bool
) -> list[memory_pb2.Memory]:
    request = pb.ListMemoriesRequest(agent_id=agent_id, page_size=PAGE_SIZE)
    found: list[memory_pb2.Memory] = []
    while True:
        page = await mesh.memories.ListMemories(request)
        active = memory_pb2.MEMORY_STATE_ACTIVE
        found += [one for one in page.memories if superseded or one.state == active]
        request.page_token = page.next_page_token
        if len(found) >= limit or not request.page_token:
            return found[:limit]


@app.command("show")
def show(memory_id: str, as_json: Json = False) -> None:
    """Show a memory whole: what it says, of what kind, and where it comes from."""

    async def work(mesh: Gathering) -> None:
        request = pb.GetMemoryRequest(memory_id=memory_id)
        found = await mesh.memories.GetMemory(request)
        if as_json:
            print_json(found)
            return
        origin = found.provenance
        state = memory_pb2.MemoryState.Name(found.state).removeprefix("MEMORY_STATE_").lower()
        told = [
            ("text", found.text),
            ("scope", f"{_scope(found)} {found.scope.id}".strip()),
            ("type", f"{_kind(found)}, importance {found.importance:.2g}"),
            ("state", f"{state} {found.superseded_by_memory_id}".strip()),
            ("agent", found.agent_id),
            ("owner", found.owner_user_id),
            ("session", origin.session_id),
            ("turn", origin.turn_id),
            ("task", origin.task_id),
            ("from", origin.source or origin.memory_id),
            ("labels", ", ".join(found.tags)),
            ("told", f"{found.remembered_count} times, recalled {found.recalled_count}"),
        ]
        print_table(("", ""), [(name, visible(value)) for name, value in told if value])

    with_mesh(work)


def _scope(memory: memory_pb2.Memory) -> str:
    return memory_pb2.ScopeKind.Name(memory.scope.kind).removeprefix("SCOPE_KIND_").lower()


def _kind(memory: memory_pb2.Memory) -> str:
    return memory_pb2.MemoryType.Name(memory.type).removeprefix("MEMORY_TYPE_").lower()


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
