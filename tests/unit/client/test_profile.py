"""Which mesh a command talks to: the environment's, the saved one, the one on this machine."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gathering_client.login import ApiKey, Login
from gathering_client.profile import NoMeshError, Profile, find_profile, save, saved_file
from gathering_local.home import Home, write_json
from gathering_local.processes import ProcessId

VARIABLES = ("URL", "API_KEY", "EMAIL", "PASSWORD")


@pytest.fixture(autouse=True)
def nothing_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin with no mesh in the environment, saved or running."""
    for name in VARIABLES:
        monkeypatch.delenv(f"GATHERING_{name}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("GATHERING_HOME", str(tmp_path / "home"))


def environment(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    """Set variables by their names without the prefix."""
    for name, value in values.items():
        monkeypatch.setenv(f"GATHERING_{name}", value)


def running_mesh(home: Path, url: str) -> Home:
    """Write the status of a mesh whose supervisor is this very process."""
    this = ProcessId.of(os.getpid())
    assert this is not None
    made = Home(home)
    supervisor = {"pid": this.pid, "started": this.started}
    status = {"supervisor": supervisor, "url": url, "ready": True, "message": "", "parts": []}
    write_json(made.status_file, status)
    return made


def test_nothing_known_says_what_to_do() -> None:
    with pytest.raises(NoMeshError, match="gathering up"):
        find_profile()


def test_environment_with_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, URL="http://mesh:1", API_KEY="k")
    assert find_profile() == Profile("http://mesh:1", ApiKey("k"))


def test_environment_with_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, URL="http://mesh:1", EMAIL="me@example.org", PASSWORD="p")
    assert find_profile() == Profile("http://mesh:1", Login("me@example.org", "p"))


def test_environment_without_credentials_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, URL="http://mesh:1")
    save("http://other:1", "k")
    with pytest.raises(NoMeshError, match="GATHERING_API_KEY"):
        find_profile()


def test_saved_login_is_found_and_is_nobody_elses_to_read() -> None:
    path = save("http://saved:1", "key")
    assert find_profile() == Profile("http://saved:1", ApiKey("key"))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_environment_comes_before_the_saved_login(monkeypatch: pytest.MonkeyPatch) -> None:
    save("http://saved:1", "key")
    environment(monkeypatch, URL="http://mesh:1", API_KEY="k")
    assert find_profile().url == "http://mesh:1"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", json.dumps({"url": "http://x:1"})])
def test_saved_login_that_cannot_be_read_is_an_error(content: str) -> None:
    save("http://saved:1", "key").write_text(content)
    with pytest.raises(NoMeshError, match="gathering login"):
        find_profile()


def test_mesh_of_this_machine_is_found_last(tmp_path: Path) -> None:
    home = running_mesh(tmp_path / "home", "http://127.0.0.1:9")
    found = find_profile()
    assert found.url == "http://127.0.0.1:9"
    assert isinstance(found.credentials, Login)
    assert found.credentials.password == home.secret("admin")
    save("http://saved:1", "key")
    assert find_profile().url == "http://saved:1"


def test_address_that_is_none_says_so() -> None:
    with pytest.raises(NoMeshError, match="not an address"):
        Profile("mesh", ApiKey("k")).connect()


def test_saved_file_is_below_the_users_configuration(tmp_path: Path) -> None:
    assert saved_file() == tmp_path / "config" / "gathering" / "login.json"
