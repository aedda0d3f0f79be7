"""Call other services: one channel per peer, two tokens, a deadline and errors as types."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypedDict

import grpc

from gathering_mesh.call import Call
from gathering_mesh.errors import DeadlineExceeded
from gathering_mesh.pipeline import REQUEST_ID, TRACEPARENT
from gathering_mesh.settings import MEBIBYTE, TRANSPORT_MARGIN, ServiceSettings
from gathering_mesh.status import from_rpc_error
from gathering_mesh.tokens import ACTOR_HEADER, AUTHORIZATION, ActorSigner

DEFAULT_TIMEOUT = 10.0  # seconds
# At most so long (and a fifth) after its return a replica is found again: a rolling restart waits.
RECONNECT_SECONDS = 1
_MESSAGE_BYTES = 4 * MEBIBYTE + TRANSPORT_MARGIN

# UNAVAILABLE is safe to repeat for every method: mutations carry a request_id.
SERVICE_CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        # A replica that drains says so, and gets nothing new from this moment on.
        "healthCheckConfig": {"serviceName": ""},
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "2s",
                    "backoffMultiplier": 3,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
    }
)
CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.service_config", SERVICE_CONFIG),
    ("grpc.enable_retries", 1),
    ("grpc.max_receive_message_length", _MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", RECONNECT_SECONDS * 1000),
    ("grpc.enable_http_proxy", 0),  # peers are never behind the environment's proxy
)


class Outgoing(TypedDict):
    """The keyword arguments that every call of a stub takes."""

    metadata: tuple[tuple[str, str], ...]
    timeout: float | None


class Channels:
    """The channels of a process to its peers, open for its life."""

    def __init__(self, settings: ServiceSettings, signer: ActorSigner) -> None:
        self._peers = settings.peers
        self._signer = signer
        self._channels: dict[str, grpc.aio.Channel] = {}

    def to(self, service: str) -> grpc.aio.Channel:
        """Return the channel to a service; LookupError if its address is not configured."""
        channel = self._channels.get(service)
        if channel is None:
            if service not in self._peers:
                raise LookupError(f"GATHERING_PEERS has no address of {service}")
            channel = grpc.aio.insecure_channel(
                target(self._peers[service]), options=CHANNEL_OPTIONS
            )
            self._channels[service] = channel
        return channel

    def outgoing(self, call: Call, timeout: float | None = DEFAULT_TIMEOUT) -> Outgoing:
        """Return metadata and timeout for a call on behalf of the caller's user.

        The caller's deadline bounds the timeout (seconds; None, for streams: that deadline only).
        DeadlineExceeded where it has passed.
        """
        return Outgoing(
            metadata=(
                *self._own(call.trace, call.correlation_id),
                *(((AUTHORIZATION, f"Bearer {call.principal.token}"),) * bool(call.user)),
            ),
            timeout=_bounded(call, timeout),
        )

    def outgoing_as_actor(
        self,
        timeout: float | None = DEFAULT_TIMEOUT,
        *,
        trace: str = "",
        correlation_id: str = "",
    ) -> Outgoing:
        """Return the same for a call of this service itself, without a user."""
        return Outgoing(metadata=self._own(trace, correlation_id), timeout=timeout)

    def _own(self, trace: str, correlation_id: str) -> tuple[tuple[str, str], ...]:
        given = ((TRACEPARENT, trace), (REQUEST_ID, correlation_id))
        return ((ACTOR_HEADER, self._signer.token()), *(pair for pair in given if pair[1]))

    async def close(self) -> None:
        """Close all channels."""
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            await channel.close()


def target(address: str) -> str:
    """Return what gRPC resolves: one address as it is, several (IP, with commas) as a list."""
    if "," not in address or "://" in address:
        return address
    return f"{'ipv6' if address.startswith('[') else 'ipv4'}:{address}"


def _bounded(call: Call, timeout: float | None) -> float | None:
    remaining = call.remaining()
    if remaining is None:
        return timeout
    if remaining <= 0:
        raise DeadlineExceeded("the deadline passed before the next service was asked")
    return remaining if timeout is None else min(timeout, remaining)


@contextmanager
def peer(service: str) -> Iterator[None]:
    """Raise what a peer answers as an error of ours, with status, reason and details kept."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error, service) from error
