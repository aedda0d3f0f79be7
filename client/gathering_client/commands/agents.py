"""gathering agents: create, list, show, versions, templates, archive, grant, models."""

from datetime import UTC
from typing import Annotated

import typer

from gathering.agent.v1 import agent_pb2, model_service_pb2
from gathering.agent.v1 import agent_service_pb2 as pb
from gathering.skills.v1 import skill_pb2, skill_service_pb2
from gathering_client.connection import Gathering
from gathering_client.output import console, print_json, print_table, with_mesh, word
from gathering_client.paging import all_pages

app = typer.Typer(help="Agents: who they are and what they may do.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command("create")
def create(  # noqa: PLR0917 - typer makes options of them
    name: Annotated[str, typer.Argument(help="The name to show; default: the template's.")] = "",
    template: Annotated[
        str, typer.Option(help="See `gathering agents templates`; other options replace its own.")
    ] = "",
    grant_skills: Annotated[
        bool, typer.Option("--grant-skills", help="Let it read with what the template suggests.")
    ] = False,
    role: Annotated[str, typer.Option(help="In a word or two.")] = "",
    prompt: Annotated[str, typer.Option(help="What the model is told first.")] = "",
    competence: Annotated[
        list[str] | None, typer.Option(help="NAME or NAME=STRENGTH, 0 to 1; may be repeated.")
    ] = None,
    model: Annotated[str, typer.Option(help="Of the catalogue; default: the server's.")] = "",
    as_json: Json = False,
) -> None:
    """Create an agent."""
    agent = agent_pb2.Agent(
        name=name,
        persona=agent_pb2.Persona(role=role, base_prompt=prompt),
        competences=[parse_competence(text) for text in competence or ()],
        model=model,
    )

    async def work(mesh: Gathering) -> None:
        request = pb.CreateAgentRequest(agent=agent, template=template)
        created = await mesh.agents.CreateAgent(request)
        if grant_skills and template:
            await _grant_suggested(mesh, created)
        print_json(created) if as_json else console.print(created.agent_id)

    with_mesh(work)


async def _grant_suggested(mesh: Gathering, agent: agent_pb2.Agent) -> None:
    asked = pb.GetAgentTemplateRequest(template=agent.template)
    for skill in (await mesh.agents.GetAgentTemplate(asked)).suggested_skills:
        await mesh.skills.CreateGrant(
            skill_service_pb2.CreateGrantRequest(agent_id=agent.agent_id, skill=skill)
        )


def parse_competence(text: str) -> agent_pb2.Competence:
    """Read NAME or NAME=STRENGTH."""
    name, given, strength = text.partition("=")
    try:
        return agent_pb2.Competence(name=name, strength=float(strength) if given else 0.8)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not NAME or NAME=STRENGTH") from None


@app.command("list")
def list_agents(
    archived: Annotated[bool, typer.Option("--all", help="Archived ones too.")] = False,
    as_json: Json = False,
) -> None:
    """List the agents, newest first."""

    async def work(mesh: Gathering) -> None:
        request = pb.ListAgentsRequest(include_archived=archived)
        pages = await all_pages(mesh.agents.ListAgents, request)
        found = [agent for page in pages for agent in page.agents]
        if as_json:
            print_json(pb.ListAgentsResponse(agents=found))
            return
        print_table(
            ("agent", "name", "role", "competences", "model", "state"),
            [
                (
                    agent.agent_id,
                    agent.name,
                    agent.persona.role,
                    ", ".join(f"{each.name} {each.strength:.2g}" for each in agent.competences),
                    agent.model,
                    word(agent_pb2.AgentState.Name(agent.state)),
                )
                for agent in found
            ],
        )

    with_mesh(work)


@app.command("show")
def show(agent_id: str) -> None:
    """Show an agent whole."""

    async def work(mesh: Gathering) -> None:
        print_json(await mesh.agents.GetAgent(pb.GetAgentRequest(agent_id=agent_id)))

    with_mesh(work)


@app.command("versions")
def versions(agent_id: str, as_json: Json = False) -> None:
    """List the versions of an agent's definition, newest first."""

    async def work(mesh: Gathering) -> None:
        request = pb.ListAgentVersionsRequest(agent_id=agent_id)
        pages = await all_pages(mesh.agents.ListAgentVersions, request)
        found = [version for page in pages for version in page.versions]
        if as_json:
            print_json(pb.ListAgentVersionsResponse(versions=found))
            return
        print_table(
            ("version", "made", "by", "changed"),
            [
                (
                    str(version.version),
                    version.create_time.ToDatetime(UTC).astimezone().isoformat(" ", "seconds"),
                    version.user_id,
                    ", ".join(version.changed_fields) or "-",
                )
                for version in found
            ],
        )

    with_mesh(work)


@app.command("version")
def version(agent_id: str, number: Annotated[int, typer.Argument(help="From 1.")]) -> None:
    """Show a version of an agent's definition."""

    async def work(mesh: Gathering) -> None:
        request = pb.GetAgentVersionRequest(agent_id=agent_id, version=number)
        print_json(await mesh.agents.GetAgentVersion(request))

    with_mesh(work)


@app.command("templates")
def templates(
    name: Annotated[str, typer.Argument(help="Show this one whole; default: list all.")] = "",
    as_json: Json = False,
) -> None:
    """List the templates that agents can be created from."""

    async def work(mesh: Gathering) -> None:
        if name:
            request = pb.GetAgentTemplateRequest(template=name)
            print_json(await mesh.agents.GetAgentTemplate(request))
            return
        found = await mesh.agents.ListAgentTemplates(pb.ListAgentTemplatesRequest())
        if as_json:
            print_json(found)
            return
        print_table(
            ("template", "what it is for", "skills"),
            [
                (each.template, each.summary, ", ".join(each.suggested_skills))
                for each in found.templates
            ],
        )

    with_mesh(work)


@app.command("archive")
def archive(agent_id: str) -> None:
    """Archive an agent: it takes no turns and no offers."""

    async def work(mesh: Gathering) -> None:
        await mesh.agents.ArchiveAgent(pb.ArchiveAgentRequest(agent_id=agent_id))
        console.print("Archived.")

    with_mesh(work)


@app.command("grant")
def grant(
    agent_id: str,
    skill: Annotated[str, typer.Argument(help="See `gathering agents skills`.")],
    permission: Annotated[
        list[str] | None, typer.Option(help="read, write, delete, ...; default: read.")
    ] = None,
    write_path: Annotated[
        list[str] | None, typer.Option(help="A glob that may be written; default: all.")
    ] = None,
) -> None:
    """Let an agent use a skill."""
    known = {_permission(value): value for value in skill_pb2.Permission.values() if value}
    for given in permission or ():
        if given not in known:
            raise typer.BadParameter(f"{given!r} is none of {', '.join(sorted(known))}")

    async def work(mesh: Gathering) -> None:
        request = skill_service_pb2.CreateGrantRequest(
            agent_id=agent_id,
            skill=skill,
            permissions=[known[given] for given in permission or ()],
            write_paths=write_path or (),
        )
        console.print((await mesh.skills.CreateGrant(request)).grant_id)

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
                (skill.name, tool.name, _permission(tool.permission), tool.description)
                for skill in found.skills
                for tool in skill.tools
            ],
        )

    with_mesh(work)


def _permission(value: skill_pb2.Permission.ValueType) -> str:
    return skill_pb2.Permission.Name(value).removeprefix("PERMISSION_").lower()


@app.command("models")
def models(as_json: Json = False) -> None:
    """List the models that agents can use."""

    async def work(mesh: Gathering) -> None:
        found = await mesh.models.ListModels(model_service_pb2.ListModelsRequest())
        if as_json:
            print_json(found)
            return
        print_table(
            ("model", "provider", "window", "available", ""),
            [
                (
                    model.name,
                    model.provider,
                    str(model.context_window_tokens),
                    "yes" if model.available else "no key",
                    "default" if model.name == found.default_model else "",
                )
                for model in found.models
            ],
        )

    with_mesh(work)
