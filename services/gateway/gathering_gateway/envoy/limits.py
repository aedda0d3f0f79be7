"""Limits of requests per minute: by user where there is a token, by address where there is none."""

from __future__ import annotations

from gathering_gateway.envoy.models import Config, EdgeSettings
from gathering_gateway.envoy.typed import ADDRESS_LIMIT, USER_HEADER, USER_LIMIT, typed

_KIND = "extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
_MOST_BUCKETS = 10_000  # users or addresses that are counted at once
_WHOLE = 1_000_000  # per minute, of all together


def filters_before_tokens(settings: EdgeSettings) -> list[Config]:
    """Return the filter that counts addresses."""
    return [_filter(ADDRESS_LIMIT)] if settings.address_per_minute else []


def filters_after_tokens(settings: EdgeSettings) -> list[Config]:
    """Return the filter that counts users: it must see what the token's filter found."""
    return [_filter(USER_LIMIT)] if settings.user_per_minute else []


def by_address(settings: EdgeSettings) -> Config:
    """Return a route's limit for each address."""
    if not settings.address_per_minute:
        return {}
    action: Config = {"remote_address": {}}
    return {ADDRESS_LIMIT: _limit("address", "remote_address", action, settings.address_per_minute)}


def by_user(settings: EdgeSettings) -> Config:
    """Return a route's limit for each user."""
    if not settings.user_per_minute:
        return {}
    action = {"request_headers": {"header_name": USER_HEADER, "descriptor_key": "user"}}
    return {USER_LIMIT: _limit("user", "user", action, settings.user_per_minute)}


def _filter(name: str) -> Config:
    return {"name": name, "typed_config": typed(_KIND, stat_prefix=name)}


def _limit(name: str, key: str, action: Config, per_minute: int) -> Config:
    always = {"default_value": {"numerator": 100}}
    return typed(
        _KIND,
        stat_prefix=f"limit_{name}",
        token_bucket=_bucket(_WHOLE),
        filter_enabled=always,
        filter_enforced=always,
        rate_limits=[{"actions": [action]}],
        descriptors=[{"entries": [{"key": key}], "token_bucket": _bucket(per_minute)}],
        max_dynamic_descriptors=_MOST_BUCKETS,
        rate_limited_as_resource_exhausted=True,  # for gRPC
    )


def _bucket(per_minute: int) -> Config:
    return {"max_tokens": per_minute, "tokens_per_fill": per_minute, "fill_interval": "60s"}
