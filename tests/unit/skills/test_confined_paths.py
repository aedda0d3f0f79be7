"""No path leads out of a workspace: not by dots, links, races or odd files."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from gathering_skills.confined.changes import Draft, delete, make_directory, move
from gathering_skills.confined.contents import read_up_to
from gathering_skills.confined.paths import normal, shown
from gathering_skills.confined.root import Kind, Root, entries_of, names_in
from gathering_skills.confined.walking import Walker
from gathering_skills.errors import LinkRefused, NoSuchFile, OutsideWorkspace, ToolError
from tests.unit.skills.conftest import SECRET


def go_on() -> None:
    """Nobody cancels."""


def read(root: Root, path: str) -> str:
    """Return the content of a file."""
    with root.file(path) as descriptor:
        return read_up_to(descriptor, 1000).decode()


def write(root: Root, path: str, text: str, execution: str = "exe_1", attempt: int = 1) -> None:
    """Write a file."""
    draft = Draft(root, path, execution, attempt)
    try:
        draft.write(text.encode(), "", go_on)
        draft.publish()
    finally:
        draft.close()


@pytest.mark.parametrize(
    "path",
    ["..", "../outside/secret", "a/../../outside/secret", "/etc/passwd", "/", "//x", "./.././x"],
)
def test_path_that_climbs_out_is_refused(root: Root, path: str) -> None:
    with pytest.raises(OutsideWorkspace):
        read(root, path)
    with pytest.raises(OutsideWorkspace):
        write(root, path, "x")
    with pytest.raises(OutsideWorkspace):
        delete(root, path, recursive=True)


@pytest.mark.parametrize("path", ["a\0b", "x" * 256, "a/" * 2100 + "b", "é" * 128])
def test_path_that_no_file_can_have_is_refused(root: Root, path: str) -> None:
    with pytest.raises(ToolError) as refused:
        read(root, path)
    assert refused.value.reason == "TOOL_ARGUMENTS_INVALID"


def test_dots_within_the_workspace_are_fine(root: Root, ground: Path) -> None:
    (ground / "a").mkdir()
    (ground / "b").write_text("b")
    assert read(root, "a/../b") == "b"
    assert normal("./a//b/.") == "a/b"
    assert normal("") == "."


@pytest.mark.parametrize("target", ["{out}/secret", "../outside/secret", "up/outside/secret"])
def test_link_to_outside_is_not_followed(
    root: Root, ground: Path, tmp_path: Path, target: str
) -> None:
    (ground / "up").symlink_to("..")
    (ground / "link").symlink_to(target.format(out=tmp_path / "outside"))
    with pytest.raises((OutsideWorkspace, LinkRefused)):
        read(root, "link")
    with pytest.raises((OutsideWorkspace, LinkRefused)):
        write(root, "link", "x")
    with pytest.raises((OutsideWorkspace, LinkRefused)):
        write(root, "up/new", "x")
    with pytest.raises((OutsideWorkspace, LinkRefused)):
        make_directory(root, "up/new")
    assert (tmp_path / "outside/secret").read_text() == SECRET
    assert not (tmp_path / "new").exists()
    assert delete(root, "link", recursive=True) == 1  # the link itself
    assert (tmp_path / "outside/secret").exists()


def test_deleting_a_tree_does_not_follow_links(root: Root, ground: Path, tmp_path: Path) -> None:
    (ground / "tree/sub").mkdir(parents=True)
    (ground / "tree/sub/link").symlink_to(tmp_path / "outside")
    (ground / "tree/up").symlink_to("../..")
    assert delete(root, "tree", recursive=True) == 4
    assert (tmp_path / "outside/secret").exists()
    assert delete(root, "tree", recursive=True) == 0


def test_walk_shows_links_and_does_not_follow_them(
    root: Root, ground: Path, tmp_path: Path
) -> None:
    (ground / "folder").symlink_to(tmp_path / "outside")
    (ground / "file").symlink_to(tmp_path / "outside/secret")
    (ground / "round").symlink_to(".")
    found = list(Walker(root, go_on).walk("."))
    assert {f.path: f.entry.kind for f in found} == dict.fromkeys(
        ("file", "folder", "round"), Kind.LINK
    )


def test_odd_files_neither_block_nor_open(root: Root, ground: Path) -> None:
    os.mkfifo(ground / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(ground / "socket"))
        for name in ("fifo", "socket", "."):
            with pytest.raises(ToolError):
                read(root, name)
        for name in ("fifo", "socket"):
            with pytest.raises(ToolError):
                write(root, name, "x")
    kinds = {e.name: e.kind for e in entries_of(root.descriptor, ".", names_in(root.descriptor))}
    assert kinds == {"fifo": Kind.OTHER, "socket": Kind.OTHER}
    assert delete(root, "fifo", recursive=False) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_device_is_not_read(root: Root, ground: Path) -> None:
    try:
        os.mknod(ground / "zero", 0o666 | 0o020000, os.makedev(1, 5))
    except OSError:
        pytest.skip("no devices can be made here")
    with pytest.raises(ToolError):
        read(root, "zero")


def test_name_that_is_no_utf8_is_told_and_does_no_harm(root: Root, ground: Path) -> None:
    name = b"caf\xe9"
    (Path(os.fsdecode(bytes(ground) + b"/" + name))).write_text("x")
    (entry,) = entries_of(root.descriptor, ".", names_in(root.descriptor))
    assert shown(entry.name) == r"caf\xe9"
    shown(entry.name).encode()
    for found in Walker(root, go_on).files("."):
        os.close(found.open())


def test_write_replaces_in_one_step_and_cleans_up(root: Root, ground: Path) -> None:
    (ground / "f").write_text("old")
    (ground / "f").chmod(0o640)
    draft = Draft(root, "f", "exe_1", 1)
    draft.write(b"new", "", go_on)
    assert (ground / "f").read_text() == "old"
    draft.publish()
    draft.close()
    assert (ground / "f").read_text() == "new"
    assert (ground / "f").stat().st_mode & 0o777 == 0o640
    assert [path.name for path in ground.iterdir()] == ["f"]


def test_second_attempt_removes_what_the_killed_first_left(root: Root, ground: Path) -> None:
    killed = Draft(root, "f", "exe_1", 1)
    killed.write(b"half", "", go_on)
    assert len(list(ground.iterdir())) == 1
    write(root, "f", "whole", attempt=2)
    assert [path.name for path in ground.iterdir()] == ["f"]
    with pytest.raises(ToolError):  # and the first cannot come back over the second
        killed.publish()
    assert (ground / "f").read_text() == "whole"
    killed.close()


def test_expected_hash_is_compared_and_the_own_result_is_fine(root: Root, ground: Path) -> None:
    (ground / "f").write_text("one")
    one = hashlib.sha256(b"one").hexdigest()
    for _ in range(2):  # an interrupted run that had written runs again
        draft = Draft(root, "f", "exe_1", 1)
        draft.write(b"two", one, go_on)
        draft.publish()
        draft.close()
    draft = Draft(root, "f", "exe_2", 1)
    with pytest.raises(ToolError, match="changed meanwhile"):
        draft.write(b"three", one, go_on)
    draft.close()
    assert (ground / "f").read_text() == "two"


def test_names_of_ours_cannot_be_written(root: Root) -> None:
    with pytest.raises(ToolError, match="ours"):
        write(root, ".gathering-exe_1-1", "x")


def test_move_refuses_to_replace_and_a_repeated_one_is_done(root: Root, ground: Path) -> None:
    (ground / "a").write_text("a")
    (ground / "b").write_text("b")
    with pytest.raises(ToolError, match="exists"):
        move(root, "a", "b", overwrite=False, repeated=False)
    move(root, "a", "c/d", overwrite=False, repeated=False)
    move(root, "a", "c/d", overwrite=False, repeated=True)
    assert (ground / "c/d").read_text() == "a"
    with pytest.raises(NoSuchFile):
        move(root, "a", "c/d", overwrite=False, repeated=False)
    with pytest.raises(OutsideWorkspace):
        move(root, "b", "../b", overwrite=True, repeated=False)


# Makes `door` a folder and a link to the outside in turn, as fast as can be.
SWAP = """
import ctypes, os, sys
ground = os.open(sys.argv[1], os.O_PATH)
exchange = ctypes.CDLL(None).renameat2
while True:
    exchange(ground, b"door", ground, b"trap", 2)
"""


@pytest.fixture
def swapped_door(ground: Path, tmp_path: Path) -> Iterator[None]:
    """A folder that is a link to the outside every other moment."""
    (ground / "door").mkdir()
    (ground / "door/secret").write_text("harmless")
    (ground / "trap").symlink_to(tmp_path / "outside")
    with subprocess.Popen([sys.executable, "-c", SWAP, str(ground)]) as swapper:
        yield
        swapper.kill()


@pytest.mark.usefixtures("swapped_door")
def test_links_swapped_in_a_race_never_show_or_change_the_outside(
    root: Root, tmp_path: Path
) -> None:
    seen: Counter[str] = Counter()
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        try:
            seen[read(root, "door/secret")] += 1
            write(root, "door/new", "x")
            delete(root, "door/new", recursive=True)
            delete(root, "door/../door/secret2", recursive=True)
        except ToolError:
            seen["refused"] += 1
    assert set(seen) == {"harmless", "refused"}, seen
    assert min(seen.values()) > 10, seen
    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["secret"]
    assert (tmp_path / "outside/secret").read_text() == SECRET
