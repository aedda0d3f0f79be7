"""Who may do what: grants, paths that may be written, roles, tenants, directories."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gathering.skills.v1 import (
    execution_service_pb2,
    skill_pb2,
    skill_service_pb2,
    workspace_service_pb2,
)
from gathering_mesh.errors import (
    DomainError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
)
from gathering_mesh.ids import new_id
from tests.integration.skills.harness import (
    DELETE,
    DONE,
    FAILED,
    READ,
    WRITE,
    Caller,
    Issuer,
    Service,
    serving,
)
from tests.support.postgres import TestDatabase


async def tools_of(caller: Caller, agent: str) -> list[str]:
    """Return the names of the tools that an agent may use."""
    request = skill_service_pb2.ListGrantedToolsRequest(agent_id=agent)
    answer = await caller.call("SkillService", "ListGrantedTools", request)
    return [tool.name for tool in answer.tools]


async def revoke(caller: Caller, grant_id: str, **fields: Any) -> Any:
    """Take a grant away."""
    request = skill_service_pb2.RevokeGrantRequest(grant_id=grant_id, **fields)
    return await caller.call("SkillService", "RevokeGrant", request)


def names(folder: Path) -> list[str]:
    """Return what a folder holds."""
    return sorted(path.name for path in folder.iterdir())


def replace_by_link(folder: Path, target: Path) -> None:
    """Put a link where an empty folder was."""
    folder.rmdir()
    folder.symlink_to(target)


async def refusal(attempt: Any) -> DomainError:
    """Return the error with which an attempt is refused."""
    with pytest.raises(DomainError) as refused:
        await attempt
    return refused.value


async def test_catalogue_tells_tools_with_schemas(admin: Caller) -> None:
    request = skill_service_pb2.ListSkillsRequest()
    answer = await admin.call("SkillService", "ListSkills", request)
    skills = {skill.name: skill for skill in answer.skills}
    assert list(skills) == sorted(skills)
    assert {"analysis", "filesystem", "search"} <= set(skills)
    (write,) = [tool for tool in skills["filesystem"].tools if tool.name == "fs_write"]
    assert write.effect == skill_pb2.EFFECT_CLASS_CONVERGENT
    assert write.permission == WRITE
    assert write.needs_workspace
    assert "path" in write.arguments_schema["properties"]
    assert "sha256" in write.result_schema["properties"]


async def test_agent_uses_what_is_granted_and_nothing_else(
    admin: Caller, workspace: str, ground: Path
) -> None:
    agent = new_id("agt")
    service = admin.through("agent")
    assert await tools_of(admin, agent) == []
    denied = await refusal(service.execute("fs_list", workspace, agent=agent))
    assert (denied.status, denied.reason) == ("PERMISSION_DENIED", "TOOL_NOT_GRANTED")
    reading = await admin.grant(agent, "filesystem")
    assert list(reading.permissions) == [READ]
    assert await tools_of(admin, agent) == ["fs_info", "fs_list", "fs_read", "fs_tree"]
    assert (await service.execute("fs_list", workspace, agent=agent)).state == DONE
    denied = await refusal(
        service.execute("fs_write", workspace, agent=agent, path="x", content="")
    )
    assert denied.reason == "TOOL_NOT_GRANTED"
    denied = await refusal(service.execute("search_files", workspace, agent=agent, pattern="*"))
    assert denied.reason == "TOOL_NOT_GRANTED"
    await admin.grant(agent, "filesystem", READ, WRITE)
    written = await service.execute("fs_write", workspace, agent=agent, path="x", content="")
    assert written.state == DONE
    assert names(ground) == ["x"]


async def test_second_grant_replaces_the_first_and_revoking_ends_it(
    admin: Caller, workspace: str
) -> None:
    agent = new_id("agt")
    first = await admin.grant(agent, "filesystem", READ, WRITE)
    second = await admin.grant(agent, "filesystem", READ, request_id="g")
    assert await admin.grant(agent, "filesystem", READ, request_id="g") == second
    assert (await refusal(admin.grant(agent, "search", READ, request_id="g"))).reason == (
        "REQUEST_ID_REUSED"
    )
    listing = skill_service_pb2.ListGrantsRequest(agent_id=agent)
    page = await admin.call("SkillService", "ListGrants", listing)
    assert [grant.grant_id for grant in page.grants] == [second.grant_id]
    gone = await revoke(admin, first.grant_id)
    assert gone.HasField("revoke_time")
    assert (await tools_of(admin, agent))[0] == "fs_info"  # the second is not touched by that
    ended = await revoke(admin, second.grant_id)
    assert await revoke(admin, second.grant_id) == ended
    assert await tools_of(admin, agent) == []
    denied = await refusal(admin.execute("fs_list", workspace, agent=agent))
    assert denied.reason == "TOOL_NOT_GRANTED"
    assert (await refusal(revoke(admin, new_id("grt")))).reason == "NOT_FOUND"


async def test_grants_at_once_leave_one(admin: Caller) -> None:
    agent = new_id("agt")
    made = await asyncio.gather(*(admin.grant(agent, "filesystem", READ) for _ in range(8)))
    revoked = await asyncio.gather(
        *(revoke(admin, grant.grant_id) for grant in made[:4]),
        *(admin.grant(agent, "filesystem", READ, WRITE) for _ in range(4)),
    )
    assert len(revoked) == 8
    listing = skill_service_pb2.ListGrantsRequest(agent_id=agent)
    page = await admin.call("SkillService", "ListGrants", listing)
    assert len(page.grants) == 1


async def test_grants_are_listed_by_pages(admin: Caller) -> None:
    agents = sorted(new_id("agt") for _ in range(3))
    for agent in agents:
        for skill in ("search", "analysis"):
            await admin.grant(agent, skill)
    seen: list[tuple[str, str]] = []
    token = ""
    while True:
        request = skill_service_pb2.ListGrantsRequest(page_size=4, page_token=token)
        page = await admin.call("SkillService", "ListGrants", request)
        seen += [(grant.agent_id, grant.skill) for grant in page.grants]
        token = page.next_page_token
        if not token:
            break
    assert seen == [(agent, skill) for agent in agents for skill in ("analysis", "search")]


async def test_unknown_skill_and_permission_are_refused(admin: Caller) -> None:
    error = await refusal(admin.grant(new_id("agt"), "magic", READ))
    assert list(error.fields) == ["skill"]
    error = await refusal(admin.grant(new_id("agt"), "search", 99))
    assert list(error.fields) == ["permissions[0]"]


@pytest.mark.parametrize(
    ("path", "granted"),
    [
        ("REVIEW.md", True),
        ("./docs/../REVIEW.md", True),
        ("docs/a/b.md", True),
        ("docs", False),
        ("src/x.py", False),
        ("docs/../src/x.md", False),
        ("docs/../../x.md", False),
        ("/REVIEW.md", False),
        ("REVIEW.md/x", False),
        ("docs/link/x.md", None),
        ("sub/REVIEW.md", False),
    ],
)
async def test_write_paths_bind_what_is_written(
    admin: Caller, workspace: str, ground: Path, path: str, granted: bool | None
) -> None:
    (ground / "src").mkdir()
    (ground / "docs").mkdir()
    (ground / "docs/link").symlink_to("../src")
    agent = new_id("agt")
    await admin.grant(
        agent, "filesystem", READ, WRITE, DELETE, write_paths=["REVIEW.md", "docs/**/*.md"]
    )
    attempt = admin.execute("fs_write", workspace, agent=agent, path=path, content="x")
    if granted:
        assert (await attempt).state == DONE
        (ground / "src/move.md").write_text("x")
        elsewhere: list[tuple[str, dict[str, Any]]] = [
            ("fs_move", {"source": path, "destination": "src/y.md"}),
            ("fs_move", {"source": "src/move.md", "destination": "docs/y.md"}),
            ("fs_delete", {"path": "src/move.md"}),
        ]
        for tool, arguments in elsewhere:
            denied = await refusal(admin.execute(tool, workspace, agent=agent, **arguments))
            assert denied.reason == "TOOL_NOT_GRANTED"
        return
    if granted is None:  # fits the pattern, and leads elsewhere by a link
        assert (await attempt).state == FAILED
    else:
        denied = await refusal(attempt)
        assert denied.reason == "TOOL_NOT_GRANTED"
        assert "arguments.path" in denied.message
    assert names(ground / "src") == []


async def test_user_without_an_agent_reads_and_administrators_do_all(
    admin: Caller, workspace: str
) -> None:
    member = admin.member()
    assert (await member.execute("fs_list", workspace)).state == DONE
    assert (await member.execute("analysis_lint", workspace)).state == DONE
    for tool in ("fs_mkdir", "fs_delete"):
        denied = await refusal(member.execute(tool, workspace, path="x"))
        assert denied.reason == "TOOL_NOT_GRANTED"
        assert (await admin.execute(tool, workspace, path="x")).state == DONE
    agent = new_id("agt")
    await admin.grant(agent, "filesystem", READ, WRITE)
    denied = await refusal(member.execute("fs_mkdir", workspace, agent=agent, path="y"))
    assert (denied.status, denied.reason) == ("PERMISSION_DENIED", "NOT_ALLOWED")
    behind = member.through("agent")
    assert (await behind.execute("fs_mkdir", workspace, agent=agent, path="y")).state == DONE


async def test_scopes_are_asked_for(admin: Caller, ground: Path) -> None:
    weak = replace(admin, scopes="skills.read workspaces.read")
    agent = new_id("agt")
    for attempt in (
        weak.workspace(ground),
        weak.grant(agent, "search"),
        weak.execute("fs_list"),
        weak.cancel(new_id("exe")),
    ):
        assert (await refusal(attempt)).reason == "SCOPE_MISSING"


async def test_order_of_refusals_is_schema_then_grant_then_workspace(
    admin: Caller, workspace: str
) -> None:
    agent = new_id("agt")
    nowhere = new_id("wsp")
    assert (await refusal(admin.execute("nope", nowhere, agent=agent))).reason == "TOOL_NOT_FOUND"
    invalid = await refusal(admin.execute("fs_read", nowhere, agent=agent, path=3, line="x"))
    assert isinstance(invalid, InvalidArgument)
    assert invalid.reason == "TOOL_ARGUMENTS_INVALID"
    assert set(invalid.fields) == {"arguments.path", "arguments.line"}
    missing = await refusal(admin.execute("fs_read", agent=agent, path="x"))
    assert list(missing.fields) == ["workspace_id"]
    denied = await refusal(admin.execute("fs_read", nowhere, agent=agent, path="x"))
    assert isinstance(denied, PermissionDenied)
    await admin.grant(agent, "filesystem")
    absent = await refusal(admin.execute("fs_read", nowhere, agent=agent, path="x"))
    assert isinstance(absent, NotFound)
    assert not (await admin.list()).executions  # what is refused leaves no row


async def test_tenants_see_nothing_of_each_other(
    admin: Caller, service: Service, workspace: str, ground: Path
) -> None:
    (ground / "f").write_text("x")
    agent = new_id("agt")
    grant = await admin.grant(agent, "filesystem", READ, WRITE)
    execution = await admin.execute("fs_read", workspace, request_id="same", path="f")
    other = service.caller()
    assert await tools_of(other, agent) == []
    assert not (await other.list()).executions
    request: Any = skill_service_pb2.ListGrantsRequest()
    assert not (await other.call("SkillService", "ListGrants", request)).grants
    request = workspace_service_pb2.ListWorkspacesRequest()
    assert not (await other.call("WorkspaceService", "ListWorkspaces", request)).workspaces
    request = workspace_service_pb2.GetWorkspaceRequest(workspace_id=workspace)
    for attempt in (
        other.get(execution.execution_id),
        other.cancel(execution.execution_id),
        other.execute("fs_read", workspace, path="f"),
        other.read_file(workspace, "f"),
        other.call("WorkspaceService", "GetWorkspace", request),
        revoke(other, grant.grant_id),
    ):
        assert isinstance(await refusal(attempt), NotFound)
    with pytest.raises(Exception, match="no execution"):
        await other.ended(execution.execution_id)
    theirs = await refusal(other.execute("fs_read", workspace, request_id="same", path="f"))
    assert theirs.reason == "NOT_FOUND"  # not the other tenant's execution of that name


async def test_directory_belongs_to_one_tenant(
    admin: Caller, service: Service, workspace: str, ground: Path, roots: Path
) -> None:
    (ground / "inner").mkdir()
    (roots / "beside").mkdir()
    (roots / "groundwork").mkdir()
    other = service.caller()
    for taken in (ground, ground / "inner", roots):
        assert (await refusal(other.workspace(taken))).reason == "WORKSPACE_ROOT_REFUSED"
    assert await admin.workspace(ground) == workspace
    assert await admin.workspace(ground / "inner") != workspace
    await other.workspace(roots / "beside")
    await other.workspace(roots / "groundwork")  # shares a beginning of its name, no more


async def test_directory_outside_the_roots_is_refused(
    admin: Caller, roots: Path, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (roots / "link").symlink_to(tmp_path / "outside")
    (roots / "file").write_text("")
    (tmp_path / "roots-not").mkdir()
    for path in (
        tmp_path / "outside",
        roots / "link",
        f"{roots}/../outside",
        tmp_path / "roots-not",
        roots / "file",
        roots / "none",
        "/",
        "/etc",
    ):
        assert (await refusal(admin.workspace(path))).reason == "WORKSPACE_ROOT_REFUSED", path
    relative = await refusal(admin.workspace("roots"))
    assert list(relative.fields) == ["path"]


async def test_tenant_in_a_root_keeps_tenants_apart(
    database: TestDatabase, issuer: Issuer, tmp_path: Path, roots: Path
) -> None:
    async with serving(database, issuer, tmp_path, (f"{roots}/{{tenant}}",)) as service:
        mine, other = service.caller(), service.caller()
        (roots / mine.tenant).mkdir()
        assert await mine.workspace(roots / mine.tenant)
        assert (await refusal(other.workspace(roots / mine.tenant))).reason == (
            "WORKSPACE_ROOT_REFUSED"
        )


async def test_workspace_whose_directory_became_a_link_is_not_entered(
    admin: Caller, workspace: str, ground: Path, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("s")
    replace_by_link(ground, tmp_path / "outside")
    reason, message = await admin.refused("fs_read", workspace, path="secret")
    assert (reason, "cannot be opened" in message) == ("TOOL_FAILED", True)
    assert isinstance(await refusal(admin.read_file(workspace, "secret")), NotFound)


async def test_workspace_is_made_once_per_request(admin: Caller, roots: Path) -> None:
    for name in ("a", "b"):
        (roots / name).mkdir()
    first = await admin.workspace(roots / "a", request_id="w", display_name="A")
    assert await admin.workspace(roots / "a", request_id="w", display_name="A") == first
    reused = await refusal(admin.workspace(roots / "b", request_id="w"))
    assert reused.reason == "REQUEST_ID_REUSED"
    made = await asyncio.gather(*(admin.workspace(roots / "b") for _ in range(6)))
    assert len(set(made)) == 1


async def test_file_is_read_in_parts(admin: Caller, workspace: str, ground: Path) -> None:
    (ground / "f").write_bytes(b"0123456789" * 200_000)
    whole = await admin.read_file(workspace, "f")
    assert len(whole.content) == 1024 * 1024
    assert whole.size_bytes == 2_000_000
    part = await admin.read_file(workspace, "f", offset_bytes=1_999_995, limit_bytes=100)
    assert (part.content, part.sha256) == (b"56789", whole.sha256)
    beyond = await admin.read_file(workspace, "f", offset_bytes=2**40)
    assert beyond.content == b""
    for path in ("../f", "/etc/passwd"):
        outside = await refusal(admin.read_file(workspace, path))
        assert isinstance(outside, FailedPrecondition)
        assert outside.reason == "PATH_OUTSIDE_WORKSPACE"
    for path in ("none", "."):
        assert isinstance(await refusal(admin.read_file(workspace, path)), NotFound)


async def test_too_many_executions_of_a_tenant_are_refused(
    database: TestDatabase, issuer: Issuer, tmp_path: Path, roots: Path, ground: Path
) -> None:
    async with serving(database, issuer, tmp_path, (str(roots),), live_executions=3) as service:
        admin, other = service.caller(), service.caller()
        workspace = await admin.workspace(ground)
        slow = [
            await admin.execute("probe_slow", workspace, path="p", seconds=20, wait=0)
            for _ in range(3)
        ]
        full = await refusal(admin.execute("fs_list", workspace))
        assert isinstance(full, ResourceExhausted)
        assert full.reason == "QUOTA_EXCEEDED"
        assert (await other.execute("probe_large", characters=1)).state == DONE
        for execution in slow:
            await admin.cancel(execution.execution_id)
        assert (await admin.execute("fs_list", workspace)).state == DONE


async def test_callers_at_once_share_what_is_left_of_the_quota(
    database: TestDatabase, issuer: Issuer, tmp_path: Path, roots: Path, ground: Path
) -> None:
    async with serving(database, issuer, tmp_path, (str(roots),), live_executions=4) as service:
        admin = service.caller()
        workspace = await admin.workspace(ground)
        attempts = [
            admin.execute("probe_slow", workspace, path="p", seconds=20, wait=0) for _ in range(12)
        ]
        done = await asyncio.gather(*attempts, return_exceptions=True)
        taken = [one for one in done if not isinstance(one, BaseException)]
        assert len(taken) == 4
        assert {type(one) for one in done if isinstance(one, BaseException)} == {ResourceExhausted}
        for execution in taken:
            await admin.cancel(execution.execution_id)


async def test_turn_or_task_is_named_by_services_only(admin: Caller) -> None:
    for field, prefix in (("turn_id", "trn"), ("task_id", "tsk")):
        request = execution_service_pb2.ExecuteRequest(request_id=new_id("req"), tool="probe_large")
        setattr(request, field, new_id(prefix))
        refused = await refusal(admin.call("ExecutionService", "Execute", request))
        assert isinstance(refused, InvalidArgument)
        assert list(refused.fields) == [field]
        request.arguments.update({"characters": 1})
        done = await admin.through("agent").call("ExecutionService", "Execute", request)
        assert getattr(done, field) == getattr(request, field)


async def test_rows_of_another_tenant_are_out_of_reach_in_sql(
    admin: Caller, workspace: str, database: TestDatabase
) -> None:
    await admin.execute("fs_list", workspace)
    await admin.grant(new_id("agt"), "search")
    connection = await asyncpg.connect(database.app("skills"))
    try:
        for tenant in ("", "ten_other"):
            await connection.execute("select set_config('app.tenant', $1, false)", tenant)
            for table in ("workspaces", "grants", "executions"):
                assert await connection.fetchval(f"select count(*) from skills.{table}") == 0  # noqa: S608
    finally:
        await connection.close()
