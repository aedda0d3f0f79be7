"""The command: each noun works, programs get JSON, and what goes wrong is said in words."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from gathering_client.cli import app
from gathering_client.profile import save, saved_file
from tests.e2e.mesh import COMMAND, LocalMesh
from tests.e2e.tenants import Tenant

Gather = Callable[..., Result]
NOBODY = f"agt_{'0' * 32}"


@pytest.fixture(scope="module")
def api_key(mesh: LocalMesh, tenant: Tenant) -> str:
    """Return a key of the first tenant's: quicker than a password, which is slow on purpose."""
    made = httpx.post(
        f"{mesh.url}/v1/api-keys",
        json={"display_name": "commands"},
        headers=dict(tenant.headers),
        trust_env=False,
    )
    return str(made.json()["secret"])


@pytest.fixture
def gather(
    mesh: LocalMesh, api_key: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Gather:
    """Return a function that runs `gathering ...` in this process, with a key that is saved."""
    for name, value in mesh.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    save(mesh.url, api_key)

    def run(*arguments: str, code: int = 0, typed: str = "") -> Result:
        result = CliRunner().invoke(app, [*arguments], input=typed)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, f"{result.stdout}\n{result.stderr}"
        assert "Traceback" not in result.stderr
        return result

    return run


def parsed(result: Result) -> Any:
    """Return the JSON that a command printed."""
    return json.loads(result.stdout)


def test_status_names_every_part(gather: Gather, mesh: LocalMesh) -> None:
    shown = gather("status").stdout
    status = parsed(gather("status", "--json"))
    names = {part["name"] for part in status["parts"]}
    assert names >= {"postgres", "memory", "skills", "agent", "orchestrator", "gateway", "edge"}
    assert all(name in shown for name in names)
    assert status["ready"]
    assert status["url"] == mesh.url


def test_doctor_finds_nothing_wrong(gather: Gather) -> None:
    shown = gather("doctor").stdout
    assert "bad" not in shown
    assert shown.count("ok") >= 6


def test_logs_show_a_part_or_all(gather: Gather, mesh: LocalMesh) -> None:
    one = gather("logs", "agent", "-n", "3").stdout.splitlines()
    assert 0 < len(one) <= 3
    assert all("agent" in line for line in one)
    raw = gather("logs", "agent", "--raw", "-n", "1").stdout
    assert json.loads(raw)["event"]
    assert "gateway" in gather("logs").stdout
    assert "no log of nothing" in gather("logs", "nothing", code=1).stderr


def test_logs_hold_no_secret(gather: Gather, mesh: LocalMesh, tenant: Tenant) -> None:
    for file in mesh.home.logs.glob("*.log"):
        text = file.read_text(errors="replace")
        assert tenant.password not in text, file.name
        assert tenant.tokens.access_token not in text, file.name
        assert tenant.tokens.refresh_token not in text, file.name


def test_agents_are_created_listed_shown_granted_and_archived(gather: Gather) -> None:
    options = ["--role", "reviewer", "--competence", "python=0.9", "--competence", "quality"]
    made = parsed(gather("agents", "create", "Ada [the first]", *options, "--json"))
    agent_id = made["agent_id"]
    assert [each["name"] for each in made["competences"]] == ["python", "quality"]
    assert "Ada [the first]" in gather("agents", "list").stdout
    assert parsed(gather("agents", "show", agent_id, "--json"))["persona"]["role"] == "reviewer"
    grant = ["grant", agent_id, "filesystem", "--permission", "read", "--permission", "write"]
    assert gather("agents", *grant).stdout.startswith("grt_")
    assert gather("agents", "archive", agent_id).stdout == "Archived.\n"
    listed = parsed(gather("agents", "list", "--json")).get("agents", [])
    assert agent_id not in {each["agent_id"] for each in listed}
    listed = parsed(gather("agents", "list", "--all", "--json"))["agents"]
    assert agent_id in {each["agent_id"] for each in listed}
    assert "offline" in gather("agents", "models").stdout
    skills = parsed(gather("agents", "skills", "--json"))["skills"]
    tools = {tool["name"] for skill in skills for tool in skill["tools"]}
    assert "fs_read" in tools
    assert "fs_read" in gather("agents", "skills").stdout


def test_agents_are_made_from_templates_and_their_versions_are_shown(gather: Gather) -> None:
    assert "reviewer" in gather("agents", "templates").stdout
    shown = parsed(gather("agents", "templates", "reviewer"))
    options = ["--template", "reviewer", "--role", "strict", "--grant-skills", "--json"]
    made = parsed(gather("agents", "create", *options))
    assert made["name"] == shown["definition"]["name"]
    assert made["persona"]["role"] == "strict"
    assert made["competences"] == shown["definition"]["competences"]
    versions = parsed(gather("agents", "versions", made["agent_id"], "--json"))["versions"]
    assert [each["version"] for each in versions] == ["1"]
    assert made["owner_user_id"] in gather("agents", "versions", made["agent_id"]).stdout
    first = parsed(gather("agents", "version", made["agent_id"], "1", "--json"))
    assert first["definition"]["persona"]["role"] == "strict"


def test_agents_are_described_changed_and_brought_back(gather: Gather, tmp_path: Path) -> None:
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("You keep lighthouses.\n")
    options = [
        "--role", "keeper", "--prompt", f"@{prompt}", "--trait", "calm", "--trait", "exact",
        "--style", "formal", "--language", "fr", "--language", "en", "--specialisation", "lamps",
        "--preference", "early mornings", "--competence", "optics=0.9", "--model", "offline",
        "--max-tasks", "2", "--max-steps", "7", "--max-tool-calls", "30", "--recall", "3",
        "--remember", "rules", "--remember-threshold", "0.7", "--remember-limit", "2",
        "--condensing-model", "offline",
    ]  # fmt: skip
    name = "Keeper of [Kotor]"
    made = parsed(gather("agents", "create", name, *options, "--json"))
    shown = gather("agents", "show", name).stdout
    for told in (
        "keeper", "You keep lighthouses.", "calm, exact", "formal", "fr, en", "lamps",
        "early mornings", "optics 0.9", "offline", "2 tasks", "7 model calls", "30 tool calls",
        "recalls 3", "by itself: rules", "from 0.7", "at most 2", "condenses", "nothing is granted",
    ):  # fmt: skip
        assert told in shown, told
    changes = ["--trait", "swift", "--style", "concise", "--remember", "off", "--competence", ""]
    assert gather("agents", "update", name, *changes).stdout == "Version 2.\n"
    changed = parsed(gather("agents", "show", name, "--json"))
    assert changed["persona"]["traits"] == ["swift"]
    assert changed["persona"]["role"] == "keeper", "what is not named stays"
    assert changed["persona"]["communication_style"] == "COMMUNICATION_STYLE_CONCISE"
    assert changed["memory_policy"]["remember_mode"] == "REMEMBER_MODE_OFF"
    assert changed["memory_policy"]["recall_limit"] == 3
    assert "competences" not in changed
    stale = gather("agents", "update", name, "--role", "x", "--etag", made["etag"], code=1)
    assert "[ETAG_STALE]" in stale.stderr
    assert "Nothing" in gather("agents", "update", name, code=1).stderr
    old = tmp_path / "old.json"
    old.write_text(gather("agents", "version", name, "1", "--json").stdout)
    assert gather("agents", "update", name, "--file", str(old)).stdout == "Version 3.\n"
    back = parsed(gather("agents", "show", name, "--json"))
    assert back["persona"] == made["persona"]
    assert back["competences"] == made["competences"]
    assert back["memory_policy"] == made["memory_policy"]
    fields = gather("agents", "versions", name).stdout
    assert "persona" in fields
    assert gather("agents", "archive", name).stdout == "Archived.\n"
    assert "archived" in gather("agents", "show", name).stdout
    gather("agents", "grant", name, "filesystem", code=2)
    assert gather("agents", "restore", name).stdout == "Restored.\n"
    granting = ["--permission", "read", "--permission", "write", "--ask", "write"]
    grant = gather("agents", "grant", name, "filesystem", *granting).stdout.strip()
    assert "filesystem: read, write (asks)" in gather("agents", "show", name).stdout
    assert grant in gather("agents", "grants", name).stdout
    assert gather("agents", "revoke", grant).stdout == "Revoked.\n"
    assert grant not in gather("agents", "grants", name).stdout


def test_template_says_which_skills_it_needs(gather: Gather) -> None:
    made = gather("agents", "create", "Needy", "--template", "reviewer")
    assert "filesystem, search, analysis" in made.stderr
    assert gather("agents", "grants", made.stdout.strip()).stdout.count("grt_") == 0
    made = gather("agents", "create", "Fed", "--template", "reviewer", "--grant-skills")
    assert made.stderr == ""
    assert "filesystem: read" in gather("agents", "show", made.stdout.strip()).stdout


def test_budgets_are_set_listed_and_deleted_and_usage_is_told(gather: Gather) -> None:
    agent_id = gather("agents", "create", "Spender", "--model", "offline").stdout.strip()
    set_it = ["budgets", "set", agent_id, "--tokens", "1000000", "--usd", "2.5", "--seconds", "90"]
    budget_id = gather(*set_it).stdout.strip()
    shown = gather("budgets", "list").stdout
    assert agent_id in shown
    assert "0 of 1000000" in shown
    assert "$0.000000 of $2.500000" in shown
    assert gather("budgets", "delete", budget_id).stdout == "Deleted.\n"
    listed = parsed(gather("budgets", "list", "--json")).get("budgets", [])
    assert budget_id not in {each["budget_id"] for each in listed}
    assert "calls" in gather("usage", "--by", "model", "--each", "day").stdout
    assert isinstance(parsed(gather("usage", "--json")), dict)
    assert "agt_" in gather("budgets", "set", "nobody", "--tokens", "1", code=2).stderr
    gather("budgets", "set", "tenant", "--usd", "much", code=2)
    gather("usage", "--by", "weather", code=2)


def test_sessions_are_found_forked_exported_imported_and_deleted(
    gather: Gather, tmp_path: Path
) -> None:
    agent_id = gather("agents", "create", "Keeper").stdout.strip()
    gather("chat", "Tell me of lighthouses.", "--agent", agent_id)
    (session,) = parsed(gather("sessions", "list", "--agent", agent_id, "--json"))["sessions"]
    session_id = session["session_id"]
    assert gather("sessions", "rename", session_id, "Of [light]").stdout == "Of [light]\n"
    assert session_id in gather("sessions", "list", "--query", "LIGHTHOUSES").stdout
    kept = gather("sessions", "resume-strategy", session_id, "task-focused").stdout
    assert kept == "task_focused\n"
    shown = gather("sessions", "show", session_id).stdout
    assert "Tell me of lighthouses." in shown
    messages = parsed(gather("sessions", "show", session_id, "--json"))["messages"]
    assert "lighthouses" not in gather("sessions", "show", session_id, "--last", "1").stdout
    fork = gather("sessions", "fork", session_id, messages[0]["message_id"]).stdout.strip()
    assert fork.startswith("ses_")
    file = tmp_path / "session.json"
    gather("sessions", "export", session_id, str(file))
    assert parsed(gather("sessions", "export", session_id))["title"] == "Of [light]"
    made = gather("sessions", "import", str(file), "--agent", agent_id).stdout.strip()
    assert made.startswith("ses_")
    for each in (session_id, fork, made):
        assert gather("sessions", "delete", each, "--force").stdout == "Deleted.\n"
    file.write_text('{"format_version": 1, "tenant_id": "x"}')
    assert (
        "no session" in gather("sessions", "import", str(file), "--agent", agent_id, code=1).stderr
    )


def test_circles_and_tasks_are_made_and_watched(gather: Gather) -> None:
    agent_id = gather("agents", "create", "Worker").stdout.strip()
    circle_id = gather("circles", "create", "Ring", "--purpose", "to [try]").stdout.strip()
    assert gather("circles", "add", circle_id, agent_id).stdout == "Added.\n"
    shown = gather("circles", "show", circle_id).stdout
    assert "Ring: to [try]" in shown
    assert "Worker" in shown
    assert gather("circles", "remove", circle_id, agent_id).stdout == "Removed.\n"
    assert circle_id in gather("circles", "list").stdout
    assert circle_id in gather("circles", "list", "--json").stdout
    task = parsed(gather("tasks", "create", circle_id, "Do [nothing]", "--json"))
    assert gather("tasks", "cancel", task["task_id"]).stdout == "cancelled\n"
    watched = gather("tasks", "watch", task["task_id"], "--json").stdout.splitlines()
    assert json.loads(watched[-1])["state"] == "TASK_STATE_CANCELLED"
    assert "Do [nothing]" in gather("tasks", "watch", task["task_id"]).stdout
    assert "cancelled" in gather("tasks", "list", "--circle", circle_id).stdout
    assert parsed(gather("tasks", "show", task["task_id"], "--json"))["title"] == "Do [nothing]"


def test_memories_are_added_recalled_shared_and_forgotten(gather: Gather) -> None:
    text = "The harbour of Kotor freezes never"
    memory_id = gather("memories", "add", text).stdout.strip()
    assert text in gather("memories", "recall", "harbour Kotor").stdout
    hits = parsed(gather("memories", "recall", "harbour Kotor", "--json"))["hits"]
    assert hits[0]["memory"]["memory_id"] == memory_id
    copy = gather("memories", "share", memory_id, "--scope", "tenant").stdout.strip()
    assert copy != memory_id
    told = gather("memories", "show", memory_id).stdout
    assert text in told
    assert "fact, importance 0.5" in told
    assert parsed(gather("memories", "show", memory_id, "--json"))["text"] == text
    assert memory_id in gather("memories", "list").stdout
    for each in (memory_id, copy):
        assert gather("memories", "forget", each).stdout == "Forgotten.\n"
    hits = parsed(gather("memories", "recall", "harbour Kotor", "--json")).get("hits", [])
    assert not {memory_id, copy} & {hit["memory"]["memory_id"] for hit in hits}
    listed = parsed(gather("memories", "list", "--json")).get("memories", [])
    assert not {memory_id, copy} & {each["memory_id"] for each in listed}


def test_chat_answers_once_and_goes_on_with_a_session(gather: Gather) -> None:
    frames = [json.loads(line) for line in gather("chat", "Hello", "--json").stdout.splitlines()]
    assert "completed" in frames[-1]
    session_id = frames[-1]["completed"]["session_id"]
    said = gather("chat", "And again", "--session", session_id)
    assert said.stdout.endswith("not a language model.\n")
    assert re.search(r"\d+ tokens read", said.stderr)
    talked = gather("chat", "--session", session_id, typed="One more\n\n")
    assert "tokens read" in talked.stderr
    assert session_id in talked.stderr


def test_mesh_of_this_machine_is_found_without_a_login(gather: Gather, mesh: LocalMesh) -> None:
    saved_file().unlink()
    assert gather("whoami").stdout == f"{mesh.admin[0]}, admin, at {mesh.url}\n"
    assert parsed(gather("whoami", "--json"))["email"] == mesh.admin[0]


def test_login_is_kept_until_logout(
    gather: Gather, mesh: LocalMesh, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    email, password = mesh.admin
    gather("login", mesh.url, typed=f"{email}\n{password}\n")
    monkeypatch.setenv("GATHERING_HOME", str(tmp_path / "nowhere"))
    assert email in gather("whoami").stdout
    assert gather("logout").stdout == "Forgotten.\n"
    assert "No mesh is known" in gather("whoami", code=1).stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("agents", "show", "rubbish"), 2, "rubbish"),
        (("agents", "show", "agt_rubbish"), 1, "agent_id"),
        (("agents", "update", NOBODY, "--role", "x"), 1, "[NOT_FOUND]"),
        (("agents", "create", "Ada", "--style", "loud"), 2, "loud"),
        (("agents", "create", "Ada", "--remember", "all"), 2, "all"),
        (("agents", "create", "Ada", "--recall", "51"), 1, "recall_limit"),
        (("agents", "create", "Ada", "--condensing-model", "none/such"), 1, "none/such"),
        (("chat", "Hello", "--resume-strategy", "some"), 2, "task_focused"),
        (("sessions", "resume-strategy", f"ses_{'0' * 32}", "full"), 1, "[NOT_FOUND]"),
        (("agents", "create", "Ada", "--prompt", "@/nowhere"), 2, "/nowhere"),
        (("approvals", "approve", f"exe_{'0' * 32}"), 1, "[NOT_FOUND]"),
        (("agents", "show", NOBODY), 1, "[NOT_FOUND]"),
        (("agents", "create", "x" * 101), 1, "agent.name"),
        (("agents", "create", "Ada", "--competence", "python=much"), 2, "NAME=STRENGTH"),
        (("agents", "grant", NOBODY, "filesystem", "--permission", "fly"), 2, "fly"),
        (("agents", "grant", NOBODY, "sorcery"), 1, "sorcery"),
        (("chat", "Hello", "--agent", "Nobody At All"), 2, "Nobody At All"),
        (("circles", "show", f"crc_{'0' * 32}"), 1, "[NOT_FOUND]"),
        (("tasks", "create", "rubbish", "title"), 1, "circle_id"),
        (("tasks", "review", f"tsk_{'0' * 32}", "perhaps"), 2, "perhaps"),
        (("memories", "add", "x", "--scope", "secret"), 2, "secret"),
        (("events", "--since", "rubbish"), 1, "[INVALID_CURSOR]"),
        (("login", "nowhere", "--email", "a@b", "--password", "x"), 1, "not an address"),
        (("up", "--port", "1"), 0, "ready"),
        (("nothing",), 2, "nothing"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_goes_wrong_is_said_in_words(
    arguments: tuple[str, ...], code: int, words: str, gather: Gather
) -> None:
    result = gather(*arguments, code=code)
    assert words in result.output


def test_wrong_password_is_said_in_words(gather: Gather, mesh: LocalMesh) -> None:
    options = ["--email", mesh.admin[0], "--password", "not this"]
    assert "[CREDENTIALS_INVALID]" in gather("login", mesh.url, *options, code=1).stderr


def test_mesh_that_cannot_be_reached_is_said_in_words(
    gather: Gather, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATHERING_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("GATHERING_API_KEY", "gak_nothing")
    assert "127.0.0.1:1" in gather("whoami", code=1).stderr


def test_past_events_are_shown_until_the_reader_stops_it(mesh: LocalMesh, gather: Gather) -> None:
    agent_id = gather("agents", "create", "Seen").stdout.strip()
    following = subprocess.Popen(
        [COMMAND, "events", "--since", "start", "--subject", agent_id, "--json"],
        env=mesh.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert following.stdout is not None
    assert json.loads(following.stdout.readline())["agent_created"]["name"] == "Seen"
    following.send_signal(signal.SIGINT)
    _, said = following.communicate(timeout=20)
    assert following.returncode == 130
    assert said == ""
