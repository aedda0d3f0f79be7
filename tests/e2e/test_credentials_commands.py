"""`gathering users` and `gathering keys`, as the administrator of a mesh on this machine."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from gathering_client.cli import app
from tests.e2e.mesh import LocalMesh

Gather = Callable[..., Result]
NOBODY = f"usr_{'0' * 32}"
NO_KEY = f"key_{'0' * 32}"


@pytest.fixture
def gather(mesh: LocalMesh, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Gather:
    """Return a function that runs `gathering ...` with the password that the mesh was made with."""
    for name, value in mesh.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def run(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(app, arguments)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, f"{result.stdout}\n{result.stderr}"
        assert "Traceback" not in result.stderr
        return result

    return run


def post(mesh: LocalMesh, path: str, **body: Any) -> httpx.Response:
    """Call a public RPC by REST."""
    return httpx.post(f"{mesh.url}{path}", json=body, trust_env=False, timeout=60)


def test_invited_user_is_listed_disabled_and_let_in_again(gather: Gather, mesh: LocalMesh) -> None:
    email, password = f"{uuid.uuid4().hex}@example.org", "a password of tests"
    made = json.loads(gather("users", "invite", email, "--role", "viewer", "--json").stdout)
    assert made["invitation"]["role"] == "ROLE_VIEWER"
    accepted = post(mesh, "/v1/invitations:accept", secret=made["secret"], password=password)
    assert accepted.status_code == 200, accepted.text
    users = json.loads(gather("users", "list", "--json").stdout)["users"]
    user_id = next(user["user_id"] for user in users if user["email"] == email)
    assert user_id in gather("users", "list").stdout

    assert gather("users", "disable", user_id).stdout == "Disabled.\n"
    assert "disabled" in gather("users", "list").stdout
    assert post(mesh, "/v1/auth/login", email=email, password=password).status_code == 401
    assert gather("users", "enable", user_id).stdout == "Enabled.\n"
    assert post(mesh, "/v1/auth/login", email=email, password=password).status_code == 200


def test_key_is_made_narrow_used_and_revoked(gather: Gather, mesh: LocalMesh) -> None:
    options = ["--scope", "memory.read", "--scope", "users.self", "--days", "1", "--json"]
    made = json.loads(gather("keys", "create", "robot", *options).stdout)
    key_id = made["api_key"]["api_key_id"]
    assert made["api_key"]["scopes"] == ["memory.read", "users.self"]
    assert made["api_key"]["expire_time"]
    assert post(mesh, "/v1/auth/api-key", api_key=made["secret"]).status_code == 200
    shown = gather("keys", "list").stdout
    assert key_id in shown
    assert made["secret"] not in shown
    assert gather("keys", "revoke", key_id).stdout == "Revoked.\n"
    assert post(mesh, "/v1/auth/api-key", api_key=made["secret"]).status_code == 401
    keys = json.loads(gather("keys", "list", "--json").stdout)["api_keys"]
    assert next(key for key in keys if key["api_key_id"] == key_id)["revoke_time"]


def test_what_cannot_be_done_is_said_in_words(gather: Gather) -> None:
    assert "none of admin" in gather("users", "invite", "a@b.c", "--role", "king", code=2).stderr
    assert "NOT_FOUND" in gather("users", "disable", NOBODY, code=1).stderr
    assert "NOT_FOUND" in gather("users", "enable", NOBODY, code=1).stderr
    assert "NOT_FOUND" in gather("keys", "revoke", NO_KEY, code=1).stderr
    assert "not yours" in gather("keys", "create", "bad", "--scope", "nonsense", code=1).stderr
