"""Limits of requests: by user where there is a token, by client address where there is none.

Each route counts for itself, and so does each edge: n edges allow n times as many. A bucket starts
full and is filled steadily, so that who is refused may come again after `retry_seconds`.
"""

from __future__ import annotations

import math

from gathering_gateway.envoy.models import Config, EdgeSettings
from gathering_gateway.envoy.typed import ADDRESS_LIMIT, USER_HEADER, USER_LIMIT, seconds, typed

_KIND = "extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
_MOST_BUCKETS = 10_000  # users or addresses that are counted at once
_WHOLE = 1_000_000  # per fill, of all together
_MINUTE = 60.0


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
    # Who has an IPv6 address has 2**64 of them.
    masks = {"v4_prefix_mask_len": 32, "v6_prefix_mask_len": 64}
    action: Config = {"masked_remote_address": masks}
    key, most = "masked_remote_address", settings.address_per_minute
    return {ADDRESS_LIMIT: _limit("address", key, action, most)}


def by_user(settings: EdgeSettings) -> Config:
    """Return a route's limit for each user."""
    if not settings.user_per_minute:
        return {}
    action = {"request_headers": {"header_name": USER_HEADER, "descriptor_key": "user"}}
    return {USER_LIMIT: _limit("user", "user", action, settings.user_per_minute)}


def _filter(name: str) -> Config:
    return {"name": name, "typed_config": typed(_KIND, stat_prefix=name)}


def _limit(name: str, key: str, action: Config, per_minute: int) -> Config:
    bucket = _bucket(per_minute, max(1, round(per_minute / _MINUTE)), per_minute)
    always = {"default_value": {"numerator": 100}}
    return typed(
        _KIND,
        stat_prefix=f"limit_{name}",
        token_bucket=_bucket(_WHOLE, _WHOLE, per_minute),
        filter_enabled=always,
        filter_enforced=always,
        rate_limits=[{"actions": [action]}],
        descriptors=[{"entries": [{"key": key}], "token_bucket": bucket}],
        max_dynamic_descriptors=_MOST_BUCKETS,
        rate_limited_as_resource_exhausted=True,  # for gRPC
    )


def retry_seconds(per_minute: int) -> int:
    """Return after how many whole seconds at most one more request is allowed."""
    return math.ceil(_interval(per_minute))


def _bucket(most: int, fill: int, per_minute: int) -> Config:
    interval = seconds(_interval(per_minute))
    return {"max_tokens": most, "tokens_per_fill": fill, "fill_interval": interval}


def _interval(per_minute: int) -> float:
    """Return the seconds between two fills; the same for all buckets of a limit, as it must be."""
    return max(1.0, _MINUTE / per_minute) if per_minute else 0.0
