"""`gathering chat` as a person sees it in a terminal, and as programs use it."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from gathering.agent.v1 import agent_pb2, agent_service_pb2, budget_pb2, budget_service_pb2
from gathering.skills.v1 import skill_pb2, skill_service_pb2
from gathering_client import Gathering
from tests.e2e.makers import SECRET_FILE, Maker
from tests.e2e.mesh import COMMAND, Ended, LocalMesh
from tests.support.terminal import CTRL_C, CTRL_D, Terminal, running

Chat = Callable[..., AbstractContextManager[Terminal]]
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
READ = [skill_pb2.PERMISSION_READ]


@pytest.fixture
def chat(mesh: LocalMesh, tmp_path_factory: pytest.TempPathFactory) -> Chat:
    """Return a function that starts `gathering chat ...` in a terminal, with an empty history."""
    state = tmp_path_factory.mktemp("state")

    @contextmanager
    def start(*arguments: str) -> Iterator[Terminal]:
        environment = {**mesh.environment, "XDG_STATE_HOME": str(state)}
        with running([COMMAND, "chat", *arguments], environment) as terminal:
            yield terminal

    return start


@pytest.fixture
def once(mesh: LocalMesh) -> Callable[..., Ended]:
    """Return a function that runs `gathering chat ...` with pipes, to its end."""
    return lambda *arguments, typed="": mesh.command("chat", *arguments, typed=typed)


async def agent(client: Gathering, ask: bool = False) -> str:
    """Return the name of a new agent that may read, perhaps after it asked."""
    name = f"Reader {uuid.uuid4().hex[:8]}"
    made = await client.agents.CreateAgent(
        agent_service_pb2.CreateAgentRequest(agent=agent_pb2.Agent(name=name))
    )
    grant = skill_service_pb2.CreateGrantRequest(
        agent_id=made.agent_id,
        skill="filesystem",
        permissions=READ,
        ask_permissions=READ if ask else [],
    )
    await client.skills.CreateGrant(grant)
    return name


def session_of(shown: str) -> str:
    """Return the id of the session that a chat tells of."""
    place = shown.index("ses_")
    return shown[place : place + 36]


async def test_chat_shows_tools_and_answer_and_what_it_cost(
    chat: Chat, client: Gathering, maker: Maker
) -> None:
    name = await agent(client)
    with chat("--agent", name, "--workspace", await maker.workspace()) as terminal:
        assert name in terminal.until("/help helps")
        terminal.enter(f"read {SECRET_FILE}")
        shown = terminal.until("1 tool call")
        assert f'fs_read(path="{SECRET_FILE}")' in shown
        assert "✓" in shown
        assert "the secret of" in shown
        assert "offline" in shown
        terminal.until("you> ")
        terminal.enter("/cost")
        terminal.until("2 model calls")
        terminal.until("you> ")
        terminal.send(CTRL_D)
        terminal.until("Go on later with: gathering chat --session ses_")
        assert terminal.ended() == 0


async def test_question_is_asked_in_the_chat_and_answered_there(
    chat: Chat, client: Gathering, maker: Maker
) -> None:
    name = await agent(client, ask=True)
    with chat("--agent", name, "--workspace", await maker.workspace()) as terminal:
        terminal.until("you> ")
        terminal.enter(f"read {SECRET_FILE}")
        assert SECRET_FILE in terminal.until("Let it run?")
        terminal.enter("no")
        terminal.until("Why not?")
        terminal.enter("that file is private")
        terminal.until("was denied by usr_")
        terminal.until("a person denied it: that file is private")
        terminal.until("you> ")
        terminal.enter(f"read {SECRET_FILE}")
        terminal.until("Let it run?")
        terminal.enter("yes")
        terminal.until("was approved by usr_")
        terminal.until("the secret of")
        terminal.until("you> ")


async def test_question_that_somebody_else_answers_is_waited_for_visibly(
    chat: Chat, mesh: LocalMesh, client: Gathering, maker: Maker
) -> None:
    name = await agent(client, ask=True)
    with chat("--agent", name, "--workspace", await maker.workspace()) as terminal:
        terminal.until("you> ")
        terminal.enter(f"read {SECRET_FILE}")
        terminal.until("Let it run?")
        terminal.enter("wait")
        terminal.until("by administrators")
        shown = terminal.until(", or deny")
        execution = shown[shown.index("exe_") :][:36]
        assert SECRET_FILE in mesh.command("approvals", "show", execution).out
        assert execution in mesh.command("approvals", "list").out.replace("\n", "")
        assert mesh.command("approvals", "approve", execution, "--comment", "fine").code == 1
        done = mesh.command("approvals", "approve", execution, "--yes", "--comment", "fine")
        assert done.out.endswith("Approved.\n")
        assert ": fine" in terminal.until("the secret of")
        assert "approved" in mesh.command("approvals", "show", execution).out


async def test_ctrl_c_cancels_the_turn_and_twice_leaves(
    chat: Chat, client: Gathering, maker: Maker
) -> None:
    name = await agent(client, ask=True)
    with chat("--agent", name, "--workspace", await maker.workspace()) as terminal:
        terminal.until("you> ")
        terminal.enter(f"read {SECRET_FILE}")
        terminal.until("Let it run?")
        terminal.send(CTRL_C)
        terminal.until("cancelled")
        terminal.until("you> ")
        terminal.enter("And now?")
        terminal.until("offline · ")
        terminal.until("you> ")
        terminal.send(CTRL_C)
        terminal.until("Ctrl-C again")
        terminal.send(CTRL_C)
        assert terminal.ended() == 0


async def test_conversation_goes_on_later_and_forks(chat: Chat, client: Gathering) -> None:
    name = await agent(client)
    with chat("--agent", name) as terminal:
        session = session_of(terminal.until("/help helps"))
        terminal.enter("Tell me of lighthouses.\\")
        terminal.until("...> ")
        terminal.enter("And of harbours.")
        terminal.until("offline · ")
        terminal.enter("/title Of the [sea]")
        terminal.until("you> ")
        terminal.enter("/fork")
        fork = session_of(terminal.until("with"))
        assert fork != session
        terminal.enter("/titel x")
        terminal.until("did you mean /title?")
        terminal.enter("/quit")
        assert terminal.ended() == 0
    with chat("--session", session) as terminal:
        assert "Of the [sea]" in terminal.until("/help helps")
        assert "Tell me of lighthouses.\nAnd of harbours." in terminal.until("ago")
        terminal.enter("/new")
        newest = session_of(terminal.until("with"))
        terminal.enter("Hello there again.")
        terminal.until("offline · ")
        terminal.enter("/quit")  # which keeps what was typed
        assert terminal.ended() == 0
    with chat("--continue", "--agent", name) as terminal:
        assert session_of(terminal.until("/help helps")) == newest
        terminal.until("you> ")
        terminal.enter("/sessions")
        terminal.until("messages")
        listed = terminal.until("you> ")
        assert {session, fork, newest} <= set(listed.split())
        terminal.enter("\x1b[A\x1b[A\x1b[A")  # up, thrice: what was typed in the chat before
        terminal.until("offline · ")
        terminal.until("you> ")
        terminal.enter("/history 2")
        terminal.until("Hello there again.")


async def test_escapes_of_others_do_not_steer_the_terminal(chat: Chat, client: Gathering) -> None:
    name = await agent(client)
    with chat("--agent", name) as terminal:
        terminal.until("you> ")
        terminal.enter("remember that \\")  # typed in two lines: readline takes no escape
        terminal.until("...> ")
        terminal.send("\x16\x1b]0;owned\x07\n")
        terminal.until("offline · ")
        assert b"\x1b]0;owned" not in terminal.raw


async def test_one_message_prints_the_answer_alone(
    once: Callable[..., Ended], client: Gathering, maker: Maker
) -> None:
    name = await agent(client)
    workspace = await maker.workspace()
    said = once("-a", name, "--workspace", workspace, "-m", f"read {SECRET_FILE}")
    assert said.code == 0
    assert said.out.startswith(f"`{SECRET_FILE}`")
    assert "fs_read" not in said.out
    assert "fs_read" in said.err
    assert "1 tool call" in said.err
    assert once("-a", name, "-", typed="Tell me of\nlighthouses.\n").code == 0
    spoken = once("-c", "-a", name, typed="/history\n").out
    assert "Tell me of\nlighthouses." in spoken
    frames = [json.loads(line) for line in once("-a", name, "Hello", "--json").out.splitlines()]
    assert "completed" in frames[-1]


async def test_exit_status_and_words_tell_how_a_turn_ended(
    once: Callable[..., Ended], client: Gathering
) -> None:
    name = await agent(client)
    page = await client.agents.ListAgents(agent_service_pb2.ListAgentsRequest(page_size=200))
    agent_id = next(one.agent_id for one in page.agents if one.name == name)
    budget = budget_service_pb2.SetBudgetRequest(
        level=budget_pb2.BUDGET_LEVEL_AGENT,
        subject_id=agent_id,
        caps=budget_pb2.BudgetCaps(max_tokens=100),
    )
    made = await client.budgets.SetBudget(budget)
    try:
        refused = once("-a", name, "-m", "Hello")
        assert refused.code == 1
        assert refused.out == ""
        words = " ".join(refused.err.split())
        assert (
            "The budget of this agent is used up: of 100 tokens there are 100 tokens left" in words
        )
    finally:
        delete = budget_service_pb2.DeleteBudgetRequest(budget_id=made.budget_id)
        await client.budgets.DeleteBudget(delete)
    assert once("-a", name, "-m", "Hello").code == 0
    assert once("--session", f"ses_{'0' * 32}", "-m", "Hello").code == 1
    assert once("--template", "nothing", "-m", "Hello").code == 1


async def test_ctrl_c_while_one_message_is_answered_ends_with_130(
    chat: Chat, client: Gathering, maker: Maker
) -> None:
    name = await agent(client, ask=True)
    options = ["-a", name, "--workspace", await maker.workspace(), "-m", f"read {SECRET_FILE}"]
    with chat(*options) as terminal:
        terminal.until("Let it run?")
        terminal.send(CTRL_C)
        terminal.until("cancelled")
        assert terminal.ended() == 130


async def test_picture_is_shown_to_a_model_that_takes_none_with_words(
    once: Callable[..., Ended], chat: Chat, client: Gathering, tmp_path: Path
) -> None:
    name = await agent(client)
    picture, no_picture = tmp_path / "dot.png", tmp_path / "notes.txt"
    picture.write_bytes(PNG)
    no_picture.write_text("words")
    for file in (picture, no_picture):
        said = once("-a", name, "--image", str(file), "-m", "What is this?")
        assert said.code == 1
        assert "images" in said.err
    with chat("-a", name) as terminal:
        terminal.until("you> ")
        terminal.enter("/image nowhere.png")
        terminal.until("no picture to show")
        terminal.enter(f"/image {picture}")
        terminal.until("1 picture will go")


async def test_template_makes_an_agent_once(once: Callable[..., Ended], client: Gathering) -> None:
    first = once("--template", "researcher", "-m", "Hello", "--json")
    again = once("--template", "researcher", "-m", "Hello", "--json")
    agents = {
        json.loads(said.out.splitlines()[-1])["completed"]["agent_id"] for said in (first, again)
    }
    assert len(agents) == 1
    found = await client.agents.GetAgent(
        agent_service_pb2.GetAgentRequest(agent_id=next(iter(agents)))
    )
    assert found.template == "researcher"
