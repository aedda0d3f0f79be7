"""Tokens and keys, without a server."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gathering_mesh.delegation import Delegations
from gathering_mesh.errors import PermissionDenied, Unauthenticated
from gathering_mesh.keys import (
    KeySet,
    RefreshingKeys,
    SigningKey,
    keys_of,
    read_actors,
    read_jwks,
)
from gathering_mesh.options import Rule
from gathering_mesh.tokens import ACTOR_HEADER, ActorSigner, Authenticator, user_claims
from tests.support.probe import TENANT, USER, Authority

READ = Rule(public=False, internal=False, scope="probe.read", actors=frozenset())


def metadata(user: str | None = None, actor: str | None = None) -> dict[str, str]:
    """Return what a call carries."""
    said = {"authorization": user and f"Bearer {user}", ACTOR_HEADER: actor}
    return {key: value for key, value in said.items() if value}


async def reason(authority: Authority, **tokens: str) -> str:
    """Return why a call with these tokens is refused."""
    with pytest.raises(Unauthenticated) as caught:
        await authority.authenticator().principal(READ, metadata(**tokens))
    for token in tokens.values():
        assert token not in str(caught.value)
    return caught.value.reason


async def test_good_token_gives_its_user() -> None:
    authority = Authority()
    token = authority.user("probe.read probe.write", dlg="dlg_1")
    found = await authority.authenticator().principal(READ, metadata(token))
    assert (found.tenant, found.user, found.role) == (TENANT, USER, "member")
    assert found.scopes == {"probe.read", "probe.write"}
    assert found.actor is None
    assert (found.delegation, found.api_key) == ("dlg_1", None)
    assert token not in repr(found)


async def test_token_names_the_api_key_that_it_was_made_from() -> None:
    authority = Authority()
    found = await authority.authenticator().principal(READ, metadata(authority.user(key="key_1")))
    assert (found.delegation, found.api_key) == (None, "key_1")


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "somebody"},
        {"aud": "gathering-mesh"},
        {"tenant": None},
        {"tenant": ""},
        {"tenant": 7},
        {"sub": None},
        {"role": None},
        {"exp": None},
        {"exp": "soon"},
        {"scope": None},
        {"scope": ["probe.read"]},
        {"iat": 10**12},
        {"nbf": 10**12},
    ],
)
async def test_token_with_a_wrong_claim_is_refused(claims: dict[str, Any]) -> None:
    authority = Authority()
    assert await reason(authority, user=authority.user(**claims)) == "TOKEN_INVALID"


async def test_expired_token_is_refused_as_such() -> None:
    authority = Authority()
    assert await reason(authority, user=authority.user(lifetime=-60)) == "TOKEN_EXPIRED"


async def test_token_that_was_good_is_refused_when_it_expires() -> None:
    now = [1_000_000.0]
    key = SigningKey.generate()
    source = keys_of(lambda: read_jwks({"keys": [key.public_jwk]}))
    verifier = Authenticator(source, source, clock=lambda: now[0])
    token = key.sign(
        user_claims(
            tenant=TENANT, user=USER, role="member", scopes=frozenset(), lifetime=60, now=now[0]
        )
    )
    await verifier.subject(token)
    now[0] += 70
    with pytest.raises(Unauthenticated) as caught:
        await verifier.subject(token)
    assert caught.value.reason == "TOKEN_EXPIRED"


@pytest.mark.parametrize(
    "token",
    ["", "x", "a.b.c", "ä.ö.ü", "x" * 9000, "eyJhbGciOiJFUzI1NiJ9.e30.", "." * 100, "[" * 4000],
)
async def test_text_that_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(Unauthenticated):
        await Authority().authenticator().principal(READ, {"authorization": f"Bearer {token}"})


async def test_authorization_of_another_kind_is_refused() -> None:
    with pytest.raises(Unauthenticated):
        await Authority().authenticator().principal(READ, {"authorization": "Basic abc"})


async def test_token_signed_with_another_key_under_a_known_id_is_refused() -> None:
    authority = Authority()
    claims = jwt.decode(authority.user(), options={"verify_signature": False})
    forged = jwt.encode(
        claims,
        ec.generate_private_key(ec.SECP256R1()),
        algorithm="ES256",
        headers={"kid": authority.user_keys[0].kid},
    )
    assert await reason(authority, user=forged) == "TOKEN_INVALID"


async def test_token_signed_with_the_public_key_as_a_secret_is_refused() -> None:
    authority = Authority()
    key = authority.user_keys[0]
    public = serialization.load_pem_private_key(key.pem(), None).public_key()
    secret = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    claims = jwt.decode(authority.user(), options={"verify_signature": False})
    head = {"alg": "HS256", "typ": "JWT", "kid": key.kid}
    signed = b".".join(_encoded(json.dumps(part).encode()) for part in (head, claims))
    mac = _encoded(hmac.digest(secret, signed, "sha256"))  # by hand: the library would refuse
    confused = f"{signed.decode()}.{mac.decode()}"
    assert await reason(authority, user=confused) == "TOKEN_INVALID"
    unsigned = jwt.encode(claims, "", algorithm="none", headers={"kid": key.kid})
    assert await reason(authority, user=unsigned) == "TOKEN_INVALID"


def _encoded(value: bytes) -> bytes:
    return base64.urlsafe_b64encode(value).rstrip(b"=")


async def test_changed_claims_are_refused() -> None:
    authority = Authority()
    header, _, signature = authority.user("probe.read").split(".")
    _, body, _ = authority.user("probe.read probe.admin").split(".")
    assert await reason(authority, user=f"{header}.{body}.{signature}") == "TOKEN_INVALID"


async def test_service_may_not_sign_in_the_name_of_another() -> None:
    authority = Authority()
    forged = ActorSigner("agent", authority.actors["skills"]).token()
    assert await reason(authority, user=authority.user(), actor=forged) == "TOKEN_INVALID"


async def test_token_of_a_service_is_no_token_of_a_user_nor_the_other_way_round() -> None:
    authority = Authority()
    assert await reason(authority, user=authority.actor()) == "TOKEN_INVALID"
    user = authority.user()
    assert await reason(authority, user=user, actor=user) == "TOKEN_INVALID"


async def test_service_called_user_does_not_pass_as_a_user() -> None:
    authority = Authority()
    authority.actors["user"] = SigningKey.generate()
    token = authority.actor("user")
    assert await reason(authority, user=authority.user(), actor=token) == "TOKEN_INVALID"


@pytest.mark.parametrize(
    ("user", "actor", "counts"),
    [
        ("a probe.read", "*", {"a", "probe.read"}),
        ("a probe.read", "probe.read b", {"probe.read"}),
        ("probe.read b", "a probe.read", {"probe.read"}),
    ],
)
async def test_scopes_that_count_stand_in_both_tokens(
    user: str, actor: str, counts: set[str]
) -> None:
    authority = Authority()
    found = await authority.authenticator().principal(
        READ, metadata(authority.user(user), authority.actor(scopes=actor))
    )
    assert found.scopes == counts
    assert found.actor == "agent"


@pytest.mark.parametrize(("user", "actor"), [("probe.read", "other"), ("other", "probe.read")])
async def test_scope_that_stands_in_one_token_only_is_missing(user: str, actor: str) -> None:
    authority = Authority()
    with pytest.raises(PermissionDenied) as caught:
        await authority.authenticator().principal(
            READ, metadata(authority.user(user), authority.actor(scopes=actor))
        )
    assert caught.value.reason == "SCOPE_MISSING"
    assert caught.value.metadata == {"scope": "probe.read"}


async def test_operator_caps_what_a_service_may_claim() -> None:
    authority = Authority(scopes={"agent": ["other"]})
    with pytest.raises(PermissionDenied):
        await authority.authenticator().principal(
            READ, metadata(authority.user(), authority.actor(scopes="*"))
        )


async def test_star_in_a_users_token_is_no_scope() -> None:
    authority = Authority()
    with pytest.raises(PermissionDenied):
        await authority.authenticator().principal(READ, metadata(authority.user("*")))


def test_signer_reuses_its_token_until_near_the_end() -> None:
    now = [1000.0]
    signer = ActorSigner("agent", SigningKey.generate(), clock=lambda: now[0])
    first = signer.token()
    now[0] += ActorSigner.LIFETIME - ActorSigner.RENEWED_BEFORE
    assert signer.token() == first
    now[0] += 1
    assert signer.token() != first


async def test_signer_whose_clock_was_set_back_gives_a_token_that_is_taken() -> None:
    authority, now = Authority(), [time.time() + 3600]
    signer = ActorSigner("agent", authority.actors["agent"], clock=lambda: now[0])
    to_come = metadata(authority.user(), signer.token())
    with pytest.raises(Unauthenticated):
        await authority.authenticator().principal(READ, to_come)
    now[0] -= 3600
    fresh = metadata(authority.user(), signer.token())
    assert (await authority.authenticator().principal(READ, fresh)).actor == "agent"


async def test_replaced_key_ends_the_tokens_that_it_signed_cached_or_not() -> None:
    authority = Authority()
    keys = RefreshingKeys(
        lambda: _now(read_jwks(authority.jwks())), refresh_seconds=0, minimum_interval=0
    )
    verifier = Authenticator(keys, keys_of(lambda: read_actors(authority.actors_document())))
    old = authority.user()
    await verifier.subject(old)
    authority.user_keys = [SigningKey.generate()]
    await verifier.subject(authority.user())
    with pytest.raises(Unauthenticated):
        await verifier.subject(old)


async def _now(keys: KeySet) -> KeySet:
    return keys


async def test_delegation_gives_a_call_and_asks_again_only_near_the_end() -> None:
    authority = Authority()
    asked: list[tuple[str, str]] = []
    lifetime = [900.0]

    async def exchange(tenant: str, delegation: str) -> str:
        asked.append((tenant, delegation))
        return authority.user(lifetime=lifetime[0], dlg=delegation)

    delegations = Delegations("agent", exchange, authority.authenticator())
    calls = await asyncio.gather(*(delegations.call(TENANT, "dlg_1") for _ in range(5)))
    assert asked == [(TENANT, "dlg_1")]
    assert {(c.tenant, c.user, c.principal.actor) for c in calls} == {(TENANT, USER, "agent")}
    assert calls[0].principal.delegation == "dlg_1"
    lifetime[0] = 30
    await delegations.call(TENANT, "dlg_2")
    await delegations.call(TENANT, "dlg_2")
    assert asked.count((TENANT, "dlg_2")) == 2


async def test_delegation_is_exchanged_anew_where_the_clock_was_set_back() -> None:
    authority, now = Authority(), [time.time()]
    asked: list[str] = []

    async def exchange(tenant: str, delegation: str) -> str:
        asked.append(delegation)
        return authority.user(lifetime=900, dlg=delegation)

    delegations = Delegations("agent", exchange, authority.authenticator(), clock=lambda: now[0])
    for step in (0, 10, -3600, 10):
        now[0] += step
        await delegations.call(TENANT, "dlg_1")
    assert len(asked) == 2


async def test_revoked_delegation_gives_no_call() -> None:
    async def exchange(tenant: str, delegation: str) -> str:
        raise Unauthenticated("revoked", reason="CREDENTIALS_REVOKED")

    delegations = Delegations("agent", exchange, Authority().authenticator())
    with pytest.raises(Unauthenticated) as caught:
        await delegations.call(TENANT, "dlg_1")
    assert caught.value.reason == "CREDENTIALS_REVOKED"
