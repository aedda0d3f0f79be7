"""gathering agents: create, update, list, show, versions, templates, archive, restore, models."""

from datetime import UTC
from typing import Annotated

import typer
from google.protobuf.field_mask_pb2 import FieldMask

from gathering.agent.v1 import agent_pb2
from gathering.agent.v1 import agent_service_pb2 as pb
from gathering.skills.v1 import skill_service_pb2
from gathering_client.commands import agents_definition as of
from gathering_client.commands import agents_skills
from gathering_client.commands.agents_skills import grants_of, permission_words
from gathering_client.commands.models import listing
from gathering_client.connection import Gathering
from gathering_client.naming import agent_id_of
from gathering_client.output import console, errors, fail, print_json, print_table, with_mesh, word
from gathering_client.paging import all_pages

app = typer.Typer(help="Agents: who they are and what they may do.", no_args_is_help=True)
app.registered_commands += agents_skills.app.registered_commands
Json = Annotated[bool, typer.Option("--json", help="For programs.")]
Agent = Annotated[str, typer.Argument(help="Id or name.")]


@app.command("create")
def create(  # noqa: PLR0917 - typer makes options of them
    name: Annotated[str, typer.Argument(help="The name to show; default: the template's.")] = "",
    template: Annotated[
        str, typer.Option(help="See `gathering agents templates`; other options replace its own.")
    ] = "",
    grant_skills: Annotated[
        bool, typer.Option("--grant-skills", help="Let it read with what the template suggests.")
    ] = False,
    role: of.Role = None,
    prompt: of.Prompt = None,
    trait: of.Trait = None,
    style: of.Style = None,
    language: of.Language = None,
    specialisation: of.Specialisation = None,
    preference: of.Preference = None,
    competence: of.Competence = None,
    model: of.Model = None,
    fallback: of.Fallback = None,
    max_tasks: of.MaxTasks = None,
    max_steps: of.MaxSteps = None,
    max_tool_calls: of.MaxToolCalls = None,
    recall: of.Recall = None,
    read_only: of.ReadOnly = None,
    remember: of.Remember = None,
    remember_threshold: of.Threshold = None,
    remember_limit: of.RememberLimit = None,
    condensing_model: of.CondensingModel = None,
    file: of.File = None,
    as_json: Json = False,
) -> None:
    """Create an agent."""
    said = of.said(locals())
    agent = agent_pb2.Agent()
    said.onto(agent)

    async def work(mesh: Gathering) -> None:
        request = pb.CreateAgentRequest(agent=agent, template=template)
        created = await mesh.agents.CreateAgent(request)
        if template:
            await _skills(mesh, created, grant=grant_skills)
        print_json(created) if as_json else console.print(created.agent_id)

    with_mesh(work)


async def _skills(mesh: Gathering, agent: agent_pb2.Agent, *, grant: bool) -> None:
    """Grant what the template suggests, or say what it is."""
    asked = pb.GetAgentTemplateRequest(template=agent.template)
    suggested = (await mesh.agents.GetAgentTemplate(asked)).suggested_skills
    if suggested and not grant:
        errors.print(
            f"It needs the skills {', '.join(suggested)}; give it each with "
            f"`gathering agents grant {agent.agent_id} SKILL`, or create with --grant-skills.",
            style="dim",
        )
        return
    for skill in suggested:
        await mesh.skills.CreateGrant(
            skill_service_pb2.CreateGrantRequest(agent_id=agent.agent_id, skill=skill)
        )


@app.command("update")
def update(  # noqa: PLR0917 - typer makes options of them
    agent: Agent,
    name: Annotated[str | None, typer.Option(help="Another name to show.")] = None,
    role: of.Role = None,
    prompt: of.Prompt = None,
    trait: of.Trait = None,
    style: of.Style = None,
    language: of.Language = None,
    specialisation: of.Specialisation = None,
    preference: of.Preference = None,
    competence: of.Competence = None,
    model: of.Model = None,
    fallback: of.Fallback = None,
    max_tasks: of.MaxTasks = None,
    max_steps: of.MaxSteps = None,
    max_tool_calls: of.MaxToolCalls = None,
    recall: of.Recall = None,
    read_only: of.ReadOnly = None,
    remember: of.Remember = None,
    remember_threshold: of.Threshold = None,
    remember_limit: of.RememberLimit = None,
    condensing_model: of.CondensingModel = None,
    file: of.File = None,
    etag: Annotated[str, typer.Option(help="As it was read; default: as it is now.")] = "",
    as_json: Json = False,
) -> None:
    """Change what is named, the rest stays; makes a new version of the agent's definition."""
    said = of.said(locals())

    async def work(mesh: Gathering) -> None:
        agent_id = await agent_id_of(mesh, agent, archived=True)
        known = await mesh.agents.GetAgent(pb.GetAgentRequest(agent_id=agent_id))
        changed = said.onto(known)
        if not changed:
            fail("Nothing is to be changed; see `gathering agents update --help`.")
        request = pb.UpdateAgentRequest(
            agent_id=agent_id,
            agent=known,
            update_mask=FieldMask(paths=changed),
            etag=etag or known.etag,
        )
        updated = await mesh.agents.UpdateAgent(request)
        print_json(updated) if as_json else console.print(f"Version {updated.version}.")

    with_mesh(work)


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
                    _state(agent),
                )
                for agent in found
            ],
        )

    with_mesh(work)


@app.command("show")
def show(agent: Agent, as_json: Json = False) -> None:
    """Show who an agent is, and what it may use."""

    async def work(mesh: Gathering) -> None:
        agent_id = await agent_id_of(mesh, agent, archived=True)
        found = await mesh.agents.GetAgent(pb.GetAgentRequest(agent_id=agent_id))
        if as_json:
            print_json(found)
            return
        grants = await grants_of(mesh, agent_id)
        rows = [
            ("agent", f"{agent_id}, version {found.version}, {_state(found)}, etag {found.etag}"),
            *of.definition_rows(found),
            *(("may use", f"{each.skill}: {permission_words(each)}") for each in grants),
        ]
        print_table(("", ""), rows if grants else [*rows, ("may use", "nothing is granted to it")])

    with_mesh(work)


def _state(agent: agent_pb2.Agent) -> str:
    return word(agent_pb2.AgentState.Name(agent.state))


@app.command("versions")
def versions(agent: Agent, as_json: Json = False) -> None:
    """List the versions of an agent's definition, newest first."""

    async def work(mesh: Gathering) -> None:
        agent_id = await agent_id_of(mesh, agent, archived=True)
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
def version(
    agent: Agent,
    number: Annotated[int, typer.Argument(help="From 1.")],
    as_json: Json = False,
) -> None:
    """Show a version of an agent's definition; as JSON, `update --file` brings it back."""

    async def work(mesh: Gathering) -> None:
        agent_id = await agent_id_of(mesh, agent, archived=True)
        request = pb.GetAgentVersionRequest(agent_id=agent_id, version=number)
        found = await mesh.agents.GetAgentVersion(request)
        if as_json:
            print_json(found)
            return
        head = [("version", str(found.version)), ("by", found.user_id)]
        print_table(("", ""), [*head, *of.definition_rows(found.definition)])

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
def archive(agent: Agent) -> None:
    """Archive an agent: it takes no turns and no offers."""

    async def work(mesh: Gathering) -> None:
        agent_id = await agent_id_of(mesh, agent)
        await mesh.agents.ArchiveAgent(pb.ArchiveAgentRequest(agent_id=agent_id))
        console.print("Archived.")

    with_mesh(work)


@app.command("restore")
def restore(agent: Agent) -> None:
    """Bring an archived agent back."""

    async def work(mesh: Gathering) -> None:
        agent_id = await agent_id_of(mesh, agent, archived=True)
        await mesh.agents.RestoreAgent(pb.RestoreAgentRequest(agent_id=agent_id))
        console.print("Restored.")

    with_mesh(work)


app.command("models")(listing)
