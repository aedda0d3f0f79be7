"""Users and tenants: made once, kept apart."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from pathlib import Path
from typing import Any

import argon2
import pytest

from gathering.gateway.v1 import auth_pb2
from gathering.gateway.v1 import auth_service_pb2 as pb
from gathering_gateway.provider_passwords import Argon2Passwords
from tests.support.gateway import PASSWORD, Gateway, bearer, outcome


def user(email: str, **fields: Any) -> pb.CreateUserRequest:
    given = {"password": PASSWORD, "role": auth_pb2.ROLE_MEMBER, **fields}
    return pb.CreateUserRequest(email=email, **given)


async def test_create_user_happens_once_per_request_id(gateway: Gateway) -> None:
    admin = bearer(await gateway.admin())
    request = user("New@Example.org", request_id="r1", display_name="New")
    first, second = [
        await gateway.auth.CreateUser(request, metadata=admin),
        await gateway.auth.CreateUser(request, metadata=admin),
    ]
    assert first == second
    assert (first.email, first.display_name) == ("new@example.org", "New")
    other = user("other@example.org", request_id="r1")
    assert await outcome(gateway.auth.CreateUser(other, metadata=admin)) == "REQUEST_ID_REUSED"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The passwords that were hashed."""
    done: list[str] = []
    slow = argon2.PasswordHasher.hash

    def hash(self: argon2.PasswordHasher, password: str) -> str:
        done.append(password)
        return slow(self, password)

    monkeypatch.setattr(argon2.PasswordHasher, "hash", hash)
    return done


async def test_twins_hash_the_password_once(gateway: Gateway, hashed: list[str]) -> None:
    admin = bearer(await gateway.admin())
    hashed.clear()
    request = user("new@example.org", request_id="r1")
    calls = [gateway.auth.CreateUser(request, metadata=admin) for _ in range(20)]
    made = await asyncio.gather(*calls)
    made.append(await gateway.auth.CreateUser(request, metadata=admin))
    assert made == [made[0]] * 21
    assert hashed == [PASSWORD]
    other = user("new@example.org", request_id="r1", password=f"{PASSWORD}!")
    assert await outcome(gateway.auth.CreateUser(other, metadata=admin)) == "REQUEST_ID_REUSED"
    assert hashed == [PASSWORD]


async def test_twin_does_the_work_where_the_first_leaves(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = bearer(await gateway.admin())
    request = user("new@example.org", request_id="r1")
    begun, going_on = asyncio.Event(), asyncio.Event()
    slow = Argon2Passwords.hash

    async def hash(self: Argon2Passwords, password: str) -> str:
        begun.set()
        await going_on.wait()
        return await slow(self, password)

    monkeypatch.setattr(Argon2Passwords, "hash", hash)
    first = asyncio.create_task(outcome(gateway.auth.CreateUser(request, metadata=admin)))
    await begun.wait()
    twin = asyncio.create_task(outcome(gateway.auth.CreateUser(request, metadata=admin)))
    first.cancel()
    going_on.set()
    assert await twin == "OK"


async def test_address_is_unique_over_all_tenants(gateway: Gateway) -> None:
    one, two = bearer(await gateway.admin()), bearer(await gateway.admin())
    assert await outcome(gateway.auth.CreateUser(user("a@b.org"), metadata=one)) == "OK"
    for email in ("a@b.org", "A@B.org", "admin1@example.org"):
        call = gateway.auth.CreateUser(user(email), metadata=two)
        assert await outcome(call) == "ALREADY_EXISTS", email


async def test_of_many_at_once_one_gets_the_address(gateway: Gateway) -> None:
    admin = bearer(await gateway.admin())
    calls = [gateway.auth.CreateUser(user("x@y.org"), metadata=admin) for _ in range(6)]
    assert sorted(await asyncio.gather(*map(outcome, calls))) == ["ALREADY_EXISTS"] * 5 + ["OK"]


async def test_bad_users_are_refused_with_their_fields(gateway: Gateway) -> None:
    admin = bearer(await gateway.admin())
    bad = (
        user("no address"), user(""), user("x@y.org", password="short"),
        user("x@y.org", role=auth_pb2.ROLE_UNSPECIFIED), user("x@y.org", password="x" * 257),
        user("x@y\0.org"),
    )  # fmt: skip
    for request in bad:
        call = gateway.auth.CreateUser(request, metadata=admin)
        assert await outcome(call) == "INVALID_FIELD", request


async def test_users_are_listed_by_address_page_by_page_within_their_tenant(
    gateway: Gateway,
) -> None:
    one, two = bearer(await gateway.admin()), bearer(await gateway.admin())
    for name in "dbca":
        await gateway.auth.CreateUser(user(f"{name}@one.org"), metadata=one)
    await gateway.auth.CreateUser(user("z@two.org"), metadata=two)
    found: list[str] = []
    token = ""
    while len(found) < 5:
        request = pb.ListUsersRequest(page_size=2, page_token=token)
        page = await gateway.auth.ListUsers(request, metadata=one)
        found.extend(u.email for u in page.users)
        token = page.next_page_token
    assert found == [
        "a@one.org", "admin1@example.org", "b@one.org", "c@one.org", "d@one.org"
    ]  # fmt: skip
    assert token == ""
    stolen = pb.ListUsersRequest(page_token=(
        await gateway.auth.ListUsers(pb.ListUsersRequest(page_size=1), metadata=one)
    ).next_page_token)  # fmt: skip
    call = gateway.auth.ListUsers(stolen, metadata=two)
    assert await outcome(call) == "INVALID_PAGE_TOKEN"


async def run_admin(gateway: Gateway, *arguments: str) -> tuple[int, str, str]:
    settings = gateway.settings
    environment = {
        **os.environ,
        "GATHERING_DATABASE_URL": settings.database_url,
        "GATHERING_SYSTEM_DATABASE_URL": settings.system_database_url,
        "GATHERING_KEYS_DIR": str(settings.keys_dir),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gathering_gateway.admin", *arguments,
        env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_operators_make_a_tenant_once(gateway: Gateway, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text(f"{PASSWORD}\n")
    command = ("create-tenant", "--name", "Acme", "--email", "Boss@acme.org")
    code, out, err = await run_admin(gateway, *command, "--password-file", str(secret))
    assert code == 0, err
    made = json.loads(out)
    assert made["created"]
    assert "password" not in made
    tokens = await gateway.log_in("boss@acme.org")
    assert (tokens.user.tenant_id, tokens.user.user_id) == (made["tenant_id"], made["user_id"])
    code, out, _ = await run_admin(gateway, *command)
    assert code == 0
    assert json.loads(out) == {**made, "created": False}
    await gateway.log_in("boss@acme.org")  # the password is the old one


async def test_operators_get_a_password_made_and_errors_in_a_line(gateway: Gateway) -> None:
    code, out, _ = await run_admin(gateway, "create-tenant", "--name", "A", "--email", "a@a.org")
    assert code == 0
    await gateway.log_in("a@a.org", json.loads(out)["password"])
    code, _, err = await run_admin(gateway, "create-tenant", "--name", "A", "--email", "nobody")
    assert (code, err) == (1, "create-tenant: 'nobody' is no e-mail address\n")


async def test_page_tokens_that_were_tampered_with_are_refused(gateway: Gateway) -> None:
    admin = bearer(await gateway.admin())
    await gateway.auth.CreateUser(user("a@b.org"), metadata=admin)
    page = await gateway.auth.ListUsers(pb.ListUsersRequest(page_size=1), metadata=admin)
    token = page.next_page_token
    fingerprint = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))[:8]
    for key in (b'["\\u0000"]', b'["\\ud800"]', b"{}", b"[[]]", b"[" * 700, b"null", b"\xff"):
        forged = base64.urlsafe_b64encode(fingerprint + key).decode().rstrip("=")
        call = gateway.auth.ListUsers(pb.ListUsersRequest(page_token=forged), metadata=admin)
        assert await outcome(call) == "INVALID_PAGE_TOKEN", key
