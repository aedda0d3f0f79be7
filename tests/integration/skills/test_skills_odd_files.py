"""What models and files may do wrong, through the port."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from gathering_mesh.errors import DomainError, InvalidArgument
from tests.integration.skills.harness import DONE, FAILED, Caller, Service, output_of


def odd_things(ground: Path) -> None:
    """Fill a directory with what is no plain file."""
    outside = ground.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (ground / "link").symlink_to(outside / "secret")
    (ground / "folder").symlink_to(outside)
    (ground / "up").symlink_to("..")
    os.mkfifo(ground / "fifo")
    Path(os.fsdecode(bytes(ground) + b"/bad\xff.py")).write_text("import os\n")
    (ground / "binary").write_bytes(b"\0\1\2")
    with (ground / "huge").open("wb") as file:
        file.truncate(20 * 1024**3)


@pytest.mark.parametrize("tool", ["fs_read", "fs_list", "fs_tree", "search_text", "analysis_lint"])
@pytest.mark.parametrize("path", ["../outside", "/etc", "up/outside", "folder", "link"])
async def test_no_tool_leads_out(
    admin: Caller, workspace: str, ground: Path, tool: str, path: str
) -> None:
    odd_things(ground)
    arguments: dict[str, Any] = {"path": path}
    if tool == "search_text":
        arguments["pattern"] = "secret"
    execution = await admin.execute(tool, workspace, **arguments)
    assert execution.state == FAILED
    assert execution.error_reason == "PATH_OUTSIDE_WORKSPACE"
    assert not execution.HasField("output")


async def test_odd_files_are_told_and_passed_over(
    admin: Caller, workspace: str, ground: Path
) -> None:
    odd_things(ground)
    listed = await admin.output("fs_list", workspace)
    kinds = {entry["name"]: entry["kind"] for entry in listed["entries"]}
    assert kinds["fifo"] == "other"
    assert kinds["link"] == kinds["folder"] == "link"
    assert kinds[r"bad\xff.py"] == "file"
    found = await admin.output("search_text", workspace, pattern="secret|import")
    assert [match["path"] for match in found["matches"]] == [r"bad\xff.py"]
    assert found["skipped_file_count"] == 2  # the binary and the huge one
    lint = await admin.output("analysis_lint", workspace)
    assert [finding["path"] for finding in lint["findings"]] == [r"bad\xff.py"]
    for path, word in (("fifo", "regular"), ("binary", "binary"), ("huge", "bytes")):
        _, message = await admin.refused("fs_read", workspace, path=path)
        assert word in message
    info = await admin.output("fs_info", workspace, path="huge")
    assert (info["size_bytes"], info["sha256"]) == (20 * 1024**3, "")


async def test_long_file_is_read_in_parts_to_its_end(
    admin: Caller, workspace: str, ground: Path
) -> None:
    lines = [f"{n:06} {'é' * (n % 200)}\n" for n in range(3000)] + ["x" * 150_000 + "\n", "end"]
    (ground / "long").write_text("".join(lines))
    content, line, column = "", 1, 1
    part: dict[str, Any] = {}
    while line:
        part = await admin.output(
            "fs_read", workspace, path="long", start_line=line, start_column=column
        )
        assert "cut" not in part
        content += part["content"]
        line, column = int(part["next_line"]), int(part["next_column"])
    assert content == "".join(lines)
    assert part["line_count"] == len(lines)
    short = await admin.output("fs_read", workspace, path="long", start_line=2, line_count=2)
    assert short["content"] == "".join(lines[1:3])
    assert (short["end_line"], short["next_line"]) == (3, 4)
    beyond = await admin.output("fs_read", workspace, path="long", start_line=9999)
    assert (beyond["content"], "only 3002 lines" in beyond["message"]) == ("", True)


@pytest.mark.parametrize(
    ("tool", "arguments", "path"),
    [
        ("fs_read", {}, "arguments.path"),
        ("fs_read", {"path": "a", "start_line": 0}, "arguments.start_line"),
        ("fs_read", {"path": "a", "start_line": 1.5}, "arguments.start_line"),
        ("fs_read", {"path": "x" * 4001}, "arguments.path"),
        ("fs_write", {"path": "a", "content": "x" * 1_000_001}, "arguments.content"),
        (
            "fs_write",
            {"path": "a", "content": "x", "expected_sha256": "y"},
            "arguments.expected_sha256",
        ),
        ("fs_write", {"path": "a", "content": "x", "mode": "0777"}, "arguments.mode"),
        ("search_text", {"pattern": "x", "include": "*.py"}, "arguments.include"),
        ("search_text", {"pattern": "x", "limit": 100_000}, "arguments.limit"),
        ("analysis_lint", {"rules": ["--config=x"]}, "arguments.rules[0]"),
        ("analysis_lint", {"rules": []}, "arguments.rules"),
    ],
)
async def test_arguments_that_do_not_fit_are_named(
    admin: Caller, workspace: str, tool: str, arguments: dict[str, Any], path: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await admin.execute(tool, workspace, **arguments)
    assert refused.value.reason == "TOOL_ARGUMENTS_INVALID"
    assert list(refused.value.fields) == [path]


async def test_paths_that_look_like_options_are_paths(
    admin: Caller, workspace: str, ground: Path
) -> None:
    (ground / "--config=x").mkdir()
    (ground / "--config=x/a.py").write_text("import os\n")
    found = await admin.output("analysis_lint", workspace, path="--config=x")
    assert found["finding_count"] == 1
    assert (await admin.output("search_text", workspace, pattern="os", path="--config=x"))[
        "match_count"
    ] == 1


async def test_text_of_every_kind_survives_writing_and_reading(
    admin: Caller, workspace: str
) -> None:
    for number, text in enumerate(["", "\n", "no end", "a\r\nb\r", "\u2028\x0c\x85", "🦜é\u0301"]):
        path = f"f{number}"
        execution = await admin.execute("fs_write", workspace, path=path, content=text)
        assert execution.state == DONE
        assert (await admin.output("fs_read", workspace, path=path))["content"] == text
    with pytest.raises(InvalidArgument, match="NUL"):
        await admin.execute("fs_write", workspace, path="nul", content="a\0b")


async def test_nul_far_into_a_file_is_read_and_stored(
    admin: Caller, workspace: str, ground: Path
) -> None:
    (ground / "f").write_bytes(b"x" * 9000 + b"\0 end")
    execution = await admin.execute("fs_read", workspace, path="f")
    assert output_of(execution)["content"].endswith("\0 end")
    assert await admin.get(execution.execution_id) == execution


async def test_writers_at_once_leave_one_whole_content(
    admin: Caller, workspace: str, ground: Path
) -> None:
    texts = [str(n) * 50_000 for n in range(10)]
    await asyncio.gather(
        *(admin.execute("fs_write", workspace, path="f", content=text) for text in texts)
    )
    assert (ground / "f").read_text() in texts
    assert (await admin.output("fs_list", workspace))["entry_count"] == 1


async def test_change_since_reading_is_noticed(admin: Caller, workspace: str, ground: Path) -> None:
    (ground / "f").write_text("one")
    seen = (await admin.output("fs_read", workspace, path="f"))["sha256"]
    first = await admin.execute(
        "fs_write", workspace, path="f", content="two", expected_sha256=seen
    )
    second = await admin.execute(
        "fs_write", workspace, path="f", content="three", expected_sha256=seen
    )
    assert (first.state, second.state) == (DONE, FAILED)
    assert (ground / "f").read_text() == "two"


async def test_service_answers_while_tools_work(service: Service, ground: Path) -> None:
    """Heavy tools of one tenant do not hold up the loop that answers another."""
    admin, other = service.caller(), service.caller()
    workspace = await admin.workspace(ground)
    for number in range(200):
        (ground / f"m{number}.py").write_text("def f(a=[]):\n    return a\n" * 200)
    loop = asyncio.get_running_loop()
    work = asyncio.gather(
        *(admin.execute("analysis_size", workspace) for _ in range(3)),
        *(admin.execute("analysis_lint", workspace) for _ in range(3)),
    )
    slowest = 0.0
    while not work.done():
        began = loop.time()
        with pytest.raises(DomainError):
            await other.get("exe_" + "0" * 32)
        slowest = max(slowest, loop.time() - began)
        await asyncio.sleep(0.01)
    ended = [await admin.ended(execution.execution_id) for execution in await work]
    assert {execution.state for execution in ended} == {DONE}
    assert slowest < 2.0  # on two cores that others use as well
