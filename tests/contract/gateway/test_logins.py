"""Who comes in, by the service's own port: passwords, refresh tokens, API keys."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from gathering.gateway.v1 import auth_pb2
from gathering.gateway.v1 import auth_service_pb2 as pb
from gathering_mesh.client import peer
from gathering_mesh.errors import ResourceExhausted
from tests.support.fixtures import NewDatabase
from tests.support.gateway import PASSWORD, Gateway, bearer, outcome, running_gateway


def login(email: str, password: str = PASSWORD) -> pb.LoginRequest:
    return pb.LoginRequest(email=email, password=password)


async def refresh(gateway: Gateway, token: str) -> pb.Tokens:
    answer: pb.Tokens = await gateway.auth.Refresh(pb.RefreshRequest(refresh_token=token))
    return answer


async def refreshed(gateway: Gateway, token: str) -> str:
    return await outcome(gateway.auth.Refresh(pb.RefreshRequest(refresh_token=token)))


async def me(gateway: Gateway, tokens: pb.Tokens) -> auth_pb2.User:
    user: auth_pb2.User = await gateway.auth.GetMe(pb.GetMeRequest(), metadata=bearer(tokens))
    return user


async def test_login_gives_tokens_that_work(gateway: Gateway) -> None:
    await gateway.tenant("Ada@Example.org")
    tokens = await gateway.log_in(" ADA@example.ORG ")
    assert tokens.user.email == "ada@example.org"
    assert tokens.user.role == auth_pb2.ROLE_ADMIN
    assert 250 < tokens.expire_time.seconds - time.time() < 350
    assert await me(gateway, tokens) == tokens.user


async def test_wrong_password_and_unknown_address_look_alike(gateway: Gateway) -> None:
    email = await gateway.tenant()
    for request in (login(email, "wrong"), login("nobody@example.org"), login("' or 1=1 --")):
        assert await outcome(gateway.auth.Login(request)) == "CREDENTIALS_INVALID"


async def test_attempts_are_limited_per_address_also_when_they_come_at_once(
    gateway: Gateway,
) -> None:
    victim, other = await gateway.tenant(), await gateway.tenant()
    found = await asyncio.gather(
        *(outcome(gateway.auth.Login(login(victim, f"guess {n}"))) for n in range(30))
    )
    assert sorted(found) == ["CREDENTIALS_INVALID"] * 10 + ["RATE_LIMITED"] * 20
    with pytest.raises(ResourceExhausted) as caught, peer("gateway"):
        await gateway.auth.Login(login(victim))
    assert 800 < (caught.value.retry_after or 0) <= 900, "the right password has to wait as well"
    assert (await gateway.log_in(other)).user.email == other


async def test_limit_outlives_the_process_and_ends_with_its_window(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    database = await new_database("gateway")
    settings: dict[str, Any] = {"login_attempts": 2, "login_window_seconds": 1.5}
    async with running_gateway(database, tmp_path, **settings) as first:
        email = await first.tenant()
        for _ in range(2):
            assert await outcome(first.auth.Login(login(email, "no"))) == "CREDENTIALS_INVALID"
        began = time.monotonic()
    async with running_gateway(database, tmp_path, **settings) as second:
        if time.monotonic() - began < 1:
            assert await outcome(second.auth.Login(login(email))) == "RATE_LIMITED"
        while await outcome(second.auth.Login(login(email))) == "RATE_LIMITED":
            assert time.monotonic() - began < 10
            await asyncio.sleep(0.1)


async def test_success_clears_the_attempts(gateway: Gateway) -> None:
    email = await gateway.tenant()
    for _ in range(3):
        for _ in range(9):
            assert await outcome(gateway.auth.Login(login(email, "no"))) == "CREDENTIALS_INVALID"
        assert await outcome(gateway.auth.Login(login(email))) == "OK"


async def test_refresh_token_works_once_and_its_second_use_ends_the_login(
    gateway: Gateway,
) -> None:
    email = await gateway.tenant()
    first, other = await gateway.log_in(email), await gateway.log_in(email)
    second = await refresh(gateway, first.refresh_token)
    third = await refresh(gateway, second.refresh_token)
    assert third.user == first.user
    assert await me(gateway, third) == first.user
    assert await refreshed(gateway, first.refresh_token) == "CREDENTIALS_REVOKED"
    assert await refreshed(gateway, third.refresh_token) == "CREDENTIALS_REVOKED"
    assert await refreshed(gateway, other.refresh_token) == "OK", "another login goes on"


async def test_of_many_refreshes_at_once_one_wins_and_the_login_ends(gateway: Gateway) -> None:
    token = (await gateway.admin()).refresh_token
    found = await asyncio.gather(*(refreshed(gateway, token) for _ in range(8)))
    assert sorted(found) == ["CREDENTIALS_REVOKED"] * 7 + ["OK"]


async def test_made_up_refresh_tokens_end_nothing(gateway: Gateway) -> None:
    token = (await gateway.admin()).refresh_token
    handle = token.rpartition("_")[0]
    made_up = (f"{token[:40]}x", "x", "grt__", "grt_0_0", token.replace("grt", "gak"), f"{handle}_")
    for text in made_up:
        assert await refreshed(gateway, text) == "CREDENTIALS_INVALID"
        assert await outcome(gateway.auth.Logout(pb.LogoutRequest(refresh_token=text))) == "OK"
    assert await refreshed(gateway, token) == "OK"


async def test_expired_refresh_token_is_refused(new_database: NewDatabase, tmp_path: Path) -> None:
    database = await new_database("gateway")
    async with running_gateway(database, tmp_path, refresh_token_seconds=0.2) as gateway:
        token = (await gateway.admin()).refresh_token
        await asyncio.sleep(0.3)
        assert await refreshed(gateway, token) == "CREDENTIALS_INVALID"


async def test_logout_ends_the_login_by_any_of_its_tokens(gateway: Gateway) -> None:
    first = await gateway.admin()
    second = await refresh(gateway, first.refresh_token)
    for _ in range(2):
        request = pb.LogoutRequest(refresh_token=first.refresh_token)
        assert await outcome(gateway.auth.Logout(request)) == "OK"
    assert await refreshed(gateway, second.refresh_token) == "CREDENTIALS_REVOKED"


async def create_key(gateway: Gateway, tokens: pb.Tokens, seconds: int = 0) -> Any:
    request = pb.CreateApiKeyRequest(display_name="ci")
    if seconds:
        request.time_to_live.FromSeconds(seconds)
    return await gateway.auth.CreateApiKey(request, metadata=bearer(tokens))


async def exchanged(gateway: Gateway, secret: str) -> str:
    return await outcome(gateway.auth.ExchangeApiKey(pb.ExchangeApiKeyRequest(api_key=secret)))


async def test_api_key_gives_tokens_until_it_is_revoked(gateway: Gateway) -> None:
    tokens = await gateway.admin()
    made = await create_key(gateway, tokens)
    by_key = await gateway.auth.ExchangeApiKey(pb.ExchangeApiKeyRequest(api_key=made.secret))
    assert by_key.refresh_token == ""
    assert await me(gateway, by_key) == tokens.user
    request = pb.RevokeApiKeyRequest(api_key_id=made.api_key.api_key_id)
    revoked = await gateway.auth.RevokeApiKey(request, metadata=bearer(tokens))
    again = await gateway.auth.RevokeApiKey(request, metadata=bearer(tokens))
    assert revoked.revoke_time == again.revoke_time
    assert await exchanged(gateway, made.secret) == "CREDENTIALS_REVOKED"


async def test_token_of_an_api_key_ends_with_the_key(gateway: Gateway) -> None:
    made = await create_key(gateway, await gateway.admin(), seconds=60)
    by_key = await gateway.auth.ExchangeApiKey(pb.ExchangeApiKeyRequest(api_key=made.secret))
    assert by_key.expire_time.seconds <= made.api_key.expire_time.seconds


async def test_wrong_api_keys_are_refused_and_counted(gateway: Gateway) -> None:
    secret = (await create_key(gateway, await gateway.admin())).secret
    for text in ("x", "gak_0_0", secret.replace("gak", "grt"), "gak_" + "0" * 16 + "_x"):
        assert await exchanged(gateway, text) == "CREDENTIALS_INVALID"
    found = [await exchanged(gateway, f"{secret}{n}") for n in range(12)]
    assert found == ["CREDENTIALS_INVALID"] * 10 + ["RATE_LIMITED"] * 2
    assert await exchanged(gateway, secret) == "OK", "nobody can lock a key out"


async def test_keys_are_listed_newest_first_page_by_page_for_their_user_only(
    gateway: Gateway,
) -> None:
    mine, other = await gateway.admin(), await gateway.admin()
    made = [(await create_key(gateway, mine)).api_key for _ in range(5)]
    await create_key(gateway, other)
    found, token = [], ""
    for _ in range(3):
        request = pb.ListApiKeysRequest(page_size=2, page_token=token)
        page = await gateway.auth.ListApiKeys(request, metadata=bearer(mine))
        found.extend(page.api_keys)
        token = page.next_page_token
    assert found == made[::-1]
    assert token == ""
    stolen = pb.RevokeApiKeyRequest(api_key_id=made[0].api_key_id)
    call = gateway.auth.RevokeApiKey(stolen, metadata=bearer(other))
    assert await outcome(call) == "NOT_FOUND"
