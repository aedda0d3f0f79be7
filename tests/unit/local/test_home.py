"""The folder of a local mesh: secrets are made once and are nobody else's to read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gathering_local.home import Home, default_home, write_json, write_secret

_ASK = (
    "import sys; from pathlib import Path; from gathering_local.home import Home;"
    "print('ready', flush=True); sys.stdin.readline();"
    "print(Home(Path(sys.argv[1])).secret('admin'))"
)


def test_secret_asked_for_by_several_processes_at_once_is_one(tmp_path: Path) -> None:
    home = tmp_path / "home"
    askers = [
        subprocess.Popen(
            [sys.executable, "-c", _ASK, str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for asker in askers:
        assert asker.stdout is not None
        assert asker.stdout.readline() == "ready\n"
    answers = {asker.communicate("\n")[0].strip() for asker in askers}
    assert len(answers) == 1
    assert len(answers.pop()) >= 32
    assert [path.name for path in (home / "secrets").iterdir()] == ["admin"]


def test_secret_is_the_same_later_and_only_for_its_owner(tmp_path: Path) -> None:
    first = Home(tmp_path).secret("memory")
    assert Home(tmp_path).secret("memory") == first != Home(tmp_path).secret("skills")
    path = Home(tmp_path).secret_path("memory")
    assert path.read_text() == first
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_secret_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    write_secret(tmp_path / "key", b"first")
    write_secret(tmp_path / "key", b"second")
    assert (tmp_path / "key").read_bytes() == b"first"


def test_json_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    write_json(path, {"long": "x" * 1000})
    with path.open() as old:
        write_json(path, {})
        assert len(old.read()) > 1000
    assert path.read_text() == "{}"
    assert [each.name for each in tmp_path.iterdir()] == ["status.json"]


def test_home_is_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATHERING_HOME", str(tmp_path / "a"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "b"))
    assert default_home() == tmp_path / "a"
    monkeypatch.delenv("GATHERING_HOME")
    assert default_home() == tmp_path / "b" / "gathering"
