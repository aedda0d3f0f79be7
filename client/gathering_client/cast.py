"""The agents and tasks of the demonstration."""

from dataclasses import dataclass

from gathering.agent.v1 import agent_pb2, agent_service_pb2
from gathering.orchestrator.v1 import (
    circle_pb2,
    circle_service_pb2,
    task_pb2,
    task_service_pb2,
)
from gathering.skills.v1 import skill_pb2, skill_service_pb2
from gathering_client.connection import Gathering

_READ = skill_pb2.PERMISSION_READ
_WRITE = skill_pb2.PERMISSION_WRITE
_SKILLS = ("filesystem", "search", "analysis")
REPORT = "REVIEW.md"
STRUCTURE = "STRUCTURE.md"
# The first version of the report cannot cover everything within so few calls: that is the point.
_FIRST_ROUND_CALLS = 5


@dataclass(frozen=True)
class Role:
    """An agent of the demonstration."""

    name: str
    role: str
    prompt: str
    competences: dict[str, float]


ROLES = (
    Role(
        "Analyst",
        "code analyst",
        "You read Python code and report what is wrong with it: file, line, rule and why. "
        "You never report what a tool has not shown you.",
        {"python": 0.95, "code-review": 0.95, "documentation": 0.6},
    ),
    Role(
        "Engineer",
        "software engineer",
        "You know Python and its tools. You report what you find with file and line, and say "
        "plainly what you could not look at.",
        {"python": 0.7, "code-review": 0.7, "documentation": 0.8},
    ),
    Role(
        "Critic",
        "quality reviewer",
        "You check the work of others against its acceptance criteria, with tools of your own. "
        "You believe nothing that you have not seen.",
        {"quality": 0.95, "code-review": 0.5},
    ),
)


@dataclass(frozen=True)
class Cast:
    """The circle of one demonstration."""

    circle_id: str
    workspace_id: str
    agents: dict[str, agent_pb2.Agent]


async def gather(mesh: Gathering, workspace_id: str) -> Cast:
    """Create the agents, grant them their skills, bring them together in a circle."""
    agents = {role.name: await _create(mesh, role) for role in ROLES}
    for agent in agents.values():
        for skill in _SKILLS:
            await _grant(mesh, agent.agent_id, skill)
    circle = await mesh.circles.CreateCircle(
        circle_service_pb2.CreateCircleRequest(
            circle=circle_pb2.Circle(
                name="Code review",
                purpose="Reviews code bases and checks its own reports.",
                workspace_id=workspace_id,
            ),
            members=[circle_pb2.Member(agent_id=agent.agent_id) for agent in agents.values()],
        )
    )
    return Cast(circle.circle_id, workspace_id, agents)


async def _create(mesh: Gathering, role: Role) -> agent_pb2.Agent:
    return await mesh.agents.CreateAgent(
        agent_service_pb2.CreateAgentRequest(
            agent=agent_pb2.Agent(
                name=role.name,
                persona=agent_pb2.Persona(role=role.role, base_prompt=role.prompt),
                competences=[
                    agent_pb2.Competence(name=name, strength=strength)
                    for name, strength in role.competences.items()
                ],
            )
        )
    )


async def _grant(mesh: Gathering, agent_id: str, skill: str) -> None:
    writes = skill == "filesystem"
    await mesh.skills.CreateGrant(
        skill_service_pb2.CreateGrantRequest(
            agent_id=agent_id,
            skill=skill,
            permissions=[_READ, _WRITE] if writes else [_READ],
            write_paths=[REPORT, STRUCTURE] if writes else [],
        )
    )


async def small_task(mesh: Gathering, cast: Cast) -> task_pb2.Task:
    """Give the circle a first task, which keeps its best analyst busy."""
    return await mesh.tasks.CreateTask(
        task_service_pb2.CreateTaskRequest(
            circle_id=cast.circle_id,
            title=f"Describe the structure of this code base in {STRUCTURE}",
            description=f"Show the tree of the workspace and its sizes. Write {STRUCTURE}.",
            acceptance_criteria=[
                f"{STRUCTURE} exists.",
                "The largest files are listed with their size in lines.",
            ],
            required_competences=["python"],
            priority=6,
        )
    )


async def main_task(mesh: Gathering, cast: Cast) -> task_pb2.Task:
    """Give the circle its main task."""
    return await mesh.tasks.CreateTask(
        task_service_pb2.CreateTaskRequest(
            circle_id=cast.circle_id,
            title=f"Review this code base and write {REPORT}",
            description=(
                "Examine the Python code of the workspace with the analysis tools and report what "
                f"you find in {REPORT}. If something cannot be examined, say so and why."
            ),
            acceptance_criteria=[
                f"{REPORT} exists and says which tools were run.",
                "Lint findings are listed with file, line, rule and why.",
                "The most complex functions are listed with file, line and complexity.",
                "The largest files are listed with their size in lines.",
                "Import cycles are listed, or the report says that there are none.",
            ],
            required_competences=["python", "code-review"],
            priority=2,
            max_tool_calls=_FIRST_ROUND_CALLS,
        )
    )


async def disband(mesh: Gathering, cast: Cast) -> None:
    """Archive the agents; what they did stays readable."""
    for agent in cast.agents.values():
        await mesh.agents.ArchiveAgent(
            agent_service_pb2.ArchiveAgentRequest(agent_id=agent.agent_id)
        )
