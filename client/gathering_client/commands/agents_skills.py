"""gathering agents grant, grants, revoke, skills: what agents may use."""

from typing import Annotated

import typer

from gathering.skills.v1 import skill_pb2, skill_service_pb2
from gathering_client.connection import Gathering
from gathering_client.naming import agent_id_of
from gathering_client.output import console, print_json, print_table, with_mesh
from gathering_client.paging import all_pages

app = typer.Typer()
Json = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command("grant")
def grant(
    agent: Annotated[str, typer.Argument(help="Id or name.")],
    skill: Annotated[str, typer.Argument(help="See `gathering agents skills`.")],
    permission: Annotated[
        list[str] | None, typer.Option(help="read, write, delete, ...; default: read.")
    ] = None,
    ask: Annotated[
        list[str] | None, typer.Option(help="A permission whose calls a person has to approve.")
    ] = None,
    write_path: Annotated[
        list[str] | None, typer.Option(help="A glob that may be written; default: all.")
    ] = None,
) -> None:
    """Let an agent use a skill; a grant of before is replaced."""
    permissions = [_parsed(given) for given in permission or ()]
    asked = [_parsed(given) for given in ask or ()]

    async def work(mesh: Gathering) -> None:
        request = skill_service_pb2.CreateGrantRequest(
            agent_id=await agent_id_of(mesh, agent),
            skill=skill,
            permissions=permissions,
            ask_permissions=asked,
            write_paths=write_path or (),
        )
        console.print((await mesh.skills.CreateGrant(request)).grant_id)

    with_mesh(work)


def _parsed(given: str) -> skill_pb2.Permission.ValueType:
    known = {permission_word(value): value for value in skill_pb2.Permission.values() if value}
    if given not in known:
        raise typer.BadParameter(f"{given!r} is none of {', '.join(sorted(known))}")
    return known[given]


@app.command("grants")
def grants(
    agent: Annotated[str, typer.Argument(help="Id or name.")], as_json: Json = False
) -> None:
    """List what an agent may use."""

    async def work(mesh: Gathering) -> None:
        found = await grants_of(mesh, await agent_id_of(mesh, agent))
        if as_json:
            print_json(skill_service_pb2.ListGrantsResponse(grants=found))
            return
        print_table(
            ("grant", "skill", "permissions", "writes"),
            [
                (each.grant_id, each.skill, permission_words(each), ", ".join(each.write_paths))
                for each in found
            ],
        )

    with_mesh(work)


async def grants_of(mesh: Gathering, agent_id: str) -> list[skill_pb2.Grant]:
    """Return the grants of an agent that are in force, by skill."""
    request = skill_service_pb2.ListGrantsRequest(agent_id=agent_id)
    pages = await all_pages(mesh.skills.ListGrants, request)
    return [each for page in pages for each in page.grants]


@app.command("revoke")
def revoke(grant_id: Annotated[str, typer.Argument(help="See `gathering agents grants`.")]) -> None:
    """Take a grant away."""

    async def work(mesh: Gathering) -> None:
        await mesh.skills.RevokeGrant(skill_service_pb2.RevokeGrantRequest(grant_id=grant_id))
        console.print("Revoked.")

    with_mesh(work)


@app.command("skills")
def skills(as_json: Json = False) -> None:
    """List the skills that can be granted, with their tools."""

    async def work(mesh: Gathering) -> None:
        found = await mesh.skills.ListSkills(skill_service_pb2.ListSkillsRequest())
        if as_json:
            print_json(found)
            return
        print_table(
            ("skill", "tool", "needs", "what it does"),
            [
                (skill.name, tool.name, permission_word(tool.permission), tool.description)
                for skill in found.skills
                for tool in skill.tools
            ],
        )

    with_mesh(work)


def permission_words(grant: skill_pb2.Grant) -> str:
    """Return what of a skill is granted, and what of it a person is asked about."""
    return ", ".join(
        permission_word(each) + (" (asks)" if each in grant.ask_permissions else "")
        for each in grant.permissions
    )


def permission_word(value: skill_pb2.Permission.ValueType) -> str:
    """Return a permission as a word."""
    return skill_pb2.Permission.Name(value).removeprefix("PERMISSION_").lower()
