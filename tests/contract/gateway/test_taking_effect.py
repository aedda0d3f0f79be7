"""What is taken away is gone within the stated time: rights, streams, signing keys."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import jwt

from gathering.gateway.v1 import auth_pb2
from gathering.gateway.v1 import auth_service_pb2 as auth
from gathering.gateway.v1 import event_service_pb2 as events
from gathering_gateway.app import key_folder
from gathering_mesh.errors import Unauthenticated
from gathering_mesh.keys import RefreshingKeys, keys_at, keys_of
from gathering_mesh.tokens import Authenticator
from tests.contract.gateway.test_delegations import delegate, exchange
from tests.contract.gateway.test_membership import add, change_role, disable, refresh
from tests.support.fixtures import NewDatabase
from tests.support.gateway import Gateway, Metadata, bearer, outcome, running_gateway
from tests.support.waiting import eventually

LIFE = 3.0  # seconds of a token in these tests


def key_id(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


def claims_of(token: str) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return found


async def good(gateway: Gateway, token: str) -> str:
    """Return `OK` if the gateway takes a token, or the reason of its refusal."""
    return await outcome(gateway.auth.GetMe(auth.GetMeRequest(), metadata=bearer(token)))


async def read_to_end(stream: Any) -> list[events.SubscribeResponse]:
    """Return the frames of a subscription up to its end."""
    frames = []
    while (frame := await stream.read()) is not grpc.aio.EOF:
        frames.append(frame)
    return frames


@dataclass
class Crowd:
    """Users of one tenant who each lose something, the API key of one, the delegation of one."""

    gateway: Gateway
    admin: auth.Tokens
    users: dict[str, auth.Tokens] = field(default_factory=dict)
    key: auth.CreateApiKeyResponse = field(default_factory=auth.CreateApiKeyResponse)
    lent: auth_pb2.Delegation = field(default_factory=auth_pb2.Delegation)

    @classmethod
    async def of(cls, gateway: Gateway) -> Crowd:
        """Make them."""
        email = await gateway.tenant()
        crowd = cls(gateway, await gateway.log_in(email))
        for name in ("disabled", "demoted", "keyed", "lent", "left"):
            admin = crowd.admin = await gateway.log_in(email)
            crowd.users[name] = await add(gateway, admin, name)
        new = auth.CreateApiKeyRequest(display_name="k")
        crowd.key = await gateway.auth.CreateApiKey(new, metadata=await crowd.now("keyed"))
        crowd.lent = await delegate(gateway, await crowd.renewed("lent"))
        crowd.admin = await gateway.log_in(email)
        return crowd

    async def renewed(self, name: str) -> auth.Tokens:
        """Renew somebody's tokens, and keep them."""
        self.users[name] = await refresh(self.gateway, self.users[name])
        return self.users[name]

    async def now(self, name: str) -> Metadata:
        """Return metadata with a new token."""
        return bearer(await self.renewed(name))

    def by_key(self) -> Any:
        asked = auth.ExchangeApiKeyRequest(api_key=self.key.secret)
        return self.gateway.auth.ExchangeApiKey(asked)

    def by_delegation(self) -> Any:
        return exchange(self.gateway, self.lent, self.users["lent"].user.tenant_id, "agent")

    async def held(self) -> list[str]:
        """Return a token of each, got in the way that will be closed."""
        got = [await self.renewed(name) for name in ("disabled", "demoted", "left")]
        return [one.access_token for one in (*got, await self.by_key(), await self.by_delegation())]

    async def lose(self) -> None:
        """Take from each what is to be taken."""
        gateway, users = self.gateway, self.users
        await disable(gateway, self.admin, users["disabled"].user.user_id)
        viewer = auth_pb2.ROLE_VIEWER
        await change_role(gateway, self.admin, users["demoted"].user.user_id, viewer)
        await gateway.auth.Logout(auth.LogoutRequest(refresh_token=users["left"].refresh_token))
        revoked = auth.RevokeApiKeyRequest(api_key_id=self.key.api_key.api_key_id)
        await gateway.auth.RevokeApiKey(revoked, metadata=await self.now("keyed"))
        ended = auth.RevokeDelegationRequest(delegation_id=self.lent.delegation_id)
        await gateway.auth.RevokeDelegation(ended, metadata=await self.now("lent"))


async def test_rights_that_ended_give_no_token_and_what_they_gave_ends_in_time(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    database = await new_database("gateway")
    async with running_gateway(database, tmp_path, access_token_seconds=LIFE) as gateway:
        crowd = await Crowd.of(gateway)
        held = await crowd.held()
        subscribe, asked = gateway.events.Subscribe, events.SubscribeRequest()
        streams = [read_to_end(subscribe(asked, metadata=bearer(token))) for token in held]
        reading = [asyncio.create_task(stream) for stream in streams]
        await crowd.lose()
        taken = time.time()

        refused = [refresh(gateway, crowd.users[name]) for name in ("disabled", "left")]
        found = [await outcome(one) for one in (*refused, crowd.by_key(), crowd.by_delegation())]
        assert found == ["CREDENTIALS_REVOKED"] * 4
        demoted = claims_of((await crowd.renewed("demoted")).access_token)
        assert demoted["role"] == "viewer"
        assert "memory.write" not in demoted["scope"].split()

        assert all(claims_of(token)["exp"] <= taken + LIFE for token in held)
        for frames in await asyncio.gather(*reading):
            assert frames[-1].reconnect.cursor

        async def all_refused() -> bool:
            return {await good(gateway, one) for one in held} == {"TOKEN_EXPIRED"}

        await eventually(all_refused)


@asynccontextmanager
async def a_service(gateway: Gateway, **cache: float) -> AsyncIterator[Authenticator]:
    """Verify tokens as the other services do: by the keys at the gateway's address."""
    url = f"http://127.0.0.1:{gateway.app.http.port}/.well-known/jwks.json"
    keys: RefreshingKeys = keys_at(url, **cache)
    service = Authenticator(keys, keys_of(dict))
    try:
        yield service
    finally:
        await service.aclose()


async def test_rotated_key_signs_after_it_is_known_and_the_old_one_is_good_to_its_end(
    gateway: Gateway,
) -> None:
    email = await gateway.tenant()
    old = (await gateway.log_in(email)).access_token
    async with a_service(gateway, minimum_interval=0.0) as service:
        assert (await service.subject(old)).user
        await key_folder(gateway.settings).rotate(0)
        tokens = [old]

        async def signed_anew() -> bool:
            tokens.append((await gateway.log_in(email)).access_token)
            return key_id(tokens[-1]) != key_id(old)

        await eventually(signed_anew)
        new = tokens[-1]
        assert (await service.subject(new)).user == (await service.subject(old)).user
        assert [await good(gateway, old), await good(gateway, new)] == ["OK", "OK"]


async def test_dropped_key_is_refused_once_the_cache_of_a_service_is_old(gateway: Gateway) -> None:
    email = await gateway.tenant()
    old = (await gateway.log_in(email)).access_token
    async with a_service(gateway, refresh_seconds=0.5, minimum_interval=0.0) as service:
        assert (await service.subject(old)).user
        await key_folder(gateway.settings).rotate(0, drop_others=True)

        async def refused() -> bool:
            try:
                await service.subject(old)
            except Unauthenticated as error:
                assert error.reason == "TOKEN_INVALID"
                return True
            return False

        await eventually(refused)
        new = (await gateway.log_in(email)).access_token
        assert (await service.subject(new)).user
        assert [await good(gateway, old), await good(gateway, new)] == ["TOKEN_INVALID", "OK"]
