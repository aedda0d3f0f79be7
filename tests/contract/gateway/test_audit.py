"""The audit: who did what, entered from the events; and rights that end unused."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt

from gathering.gateway.v1 import audit_service_pb2 as pb
from gathering.gateway.v1 import auth_pb2
from gathering.gateway.v1 import auth_service_pb2 as auth
from gathering_gateway.models_audit import AuditEntry
from gathering_gateway.store_audit import AuditStore
from gathering_mesh.postgres import Database, DatabaseSettings
from tests.contract.gateway.test_delegations import delegate, exchange
from tests.contract.gateway.test_membership import add, disable
from tests.support.fixtures import NewDatabase
from tests.support.gateway import PASSWORD, Gateway, bearer, outcome, running_gateway

ADDRESS = (("x-forwarded-for", "10.9.9.9, 192.0.2.7"),)


async def listed(gateway: Gateway, admin: auth.Tokens, **filters: Any) -> list[pb.AuditEntry]:
    """Return all entries, two on a page."""
    request, found = pb.ListAuditEntriesRequest(page_size=2, **filters), []
    while True:
        page = await gateway.audit.ListAuditEntries(request, metadata=bearer(admin))
        found += page.entries
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


async def until(gateway: Gateway, admin: auth.Tokens, count: int, **filters: Any) -> Any:
    """Return the entries once there are so many; they follow the events."""
    async with asyncio.timeout(30):
        while len(found := await listed(gateway, admin, **filters)) < count:  # noqa: ASYNC110 (another process's)
            await asyncio.sleep(0.05)
    return found


async def test_administrators_see_who_did_what(gateway: Gateway) -> None:
    admin, stranger = await gateway.admin(), await gateway.admin()
    user = (await add(gateway, admin, "ada")).user.user_id
    await disable(gateway, admin, user)
    entries = await until(gateway, admin, 1, actions=["user_disabled"])
    assert [(e.user_id, e.resource_id, e.source) for e in entries] == [
        (admin.user.user_id, user, "gateway")
    ]
    assert entries[0].trace_id
    of_user = await listed(gateway, admin, resource_id=user)
    assert [e.action for e in of_user][-1] == "user_created"
    assert [e.time.ToNanoseconds() for e in of_user] == sorted(
        (e.time.ToNanoseconds() for e in of_user), reverse=True
    )
    later = await listed(gateway, admin, resource_id=user, after_time=entries[0].time)
    assert "user_created" not in [e.action for e in later]
    assert await listed(gateway, stranger, resource_id=user) == []


async def test_logins_are_entered_with_address_and_reason(gateway: Gateway) -> None:
    email = await gateway.tenant()
    wrong = auth.LoginRequest(email=email, password="canary-not-the-password")
    assert await outcome(gateway.auth.Login(wrong, metadata=ADDRESS)) == "CREDENTIALS_INVALID"
    good = auth.LoginRequest(email=email, password=PASSWORD)
    admin = await gateway.auth.Login(good, metadata=ADDRESS)
    both = ["login_refused", "user_logged_in"]
    entries = await until(gateway, admin, 2, actions=both)
    assert [(e.action, e.reason, e.address) for e in reversed(entries)] == [
        ("login_refused", "CREDENTIALS_INVALID", "192.0.2.7"),
        ("user_logged_in", "", "192.0.2.7"),
    ]
    assert {e.user_id for e in entries} == {admin.user.user_id}
    assert "canary" not in str(entries)


async def test_audit_is_for_administrators(gateway: Gateway) -> None:
    admin = await gateway.admin()
    user = await add(gateway, admin, "ada")
    assert await outcome(listed(gateway, user)) == "SCOPE_MISSING"


async def test_narrow_key_has_its_scopes_and_gives_no_more(gateway: Gateway) -> None:
    admin = await gateway.admin()
    user = await add(gateway, admin, "ada", auth_pb2.ROLE_VIEWER)

    def create(*scopes: str) -> Any:
        new = auth.CreateApiKeyRequest(display_name="narrow", scopes=scopes)
        return gateway.auth.CreateApiKey(new, metadata=bearer(user))

    assert await outcome(create("memory.write")) == "INVALID_FIELD"
    made = await create("users.self", "memory.read")
    assert list(made.api_key.scopes) == ["memory.read", "users.self"]
    by_key = await gateway.auth.ExchangeApiKey(auth.ExchangeApiKeyRequest(api_key=made.secret))
    lent = await delegate(gateway, by_key)
    given = await exchange(gateway, lent, admin.user.tenant_id, "agent")
    for token in (by_key.access_token, given.access_token):
        assert _scopes(token) == {"users.self", "memory.read"}
    keys = await gateway.auth.ListApiKeys(auth.ListApiKeysRequest(), metadata=bearer(by_key))
    assert keys.api_keys[0].HasField("last_use_time")
    assert made.secret not in str(keys)


def _scopes(token: str) -> set[str]:
    claims = jwt.decode(token, options={"verify_signature": False})
    return set(claims["scope"].split())


async def test_delegation_that_nobody_uses_ends(new_database: NewDatabase, tmp_path: Path) -> None:
    database = await new_database("gateway")
    async with running_gateway(database, tmp_path, delegation_idle_seconds=0.5) as gateway:
        admin = await gateway.admin()
        made = await delegate(gateway, admin)
        entries = await until(gateway, admin, 1, actions=["delegation_revoked"])
        assert entries[0].resource_id == made.delegation_id
        ended = exchange(gateway, made, admin.user.tenant_id, "agent")
        assert await outcome(ended) == "CREDENTIALS_REVOKED"


async def test_entries_older_than_the_retention_go_with_a_new_one(
    new_database: NewDatabase,
) -> None:
    database = await new_database("gateway")
    settings = DatabaseSettings(database.app("gateway"), database.system("gateway"))
    async with Database.open(settings, schema="gateway") as db:
        now = datetime.now(UTC)
        ages = {"evt_old": now - timedelta(days=2), "evt_young": now - timedelta(hours=2)}
        async with db.transaction("ten_1") as tx:
            for event_id, time in ages.items():
                await AuditStore(db, timedelta(days=9)).enter(tx, [_entry(event_id, time)])
        async with db.transaction("ten_1") as tx:
            await AuditStore(db, timedelta(days=1)).enter(tx, [_entry("evt_new", now)])
            kept = await tx.fetch("select event_id from audit_entry order by at")
    assert [row["event_id"] for row in kept] == ["evt_young", "evt_new"]


def _entry(event_id: str, time: datetime) -> AuditEntry:
    return AuditEntry(event_id, time, "agent", "turn_started", *[""] * 9)
