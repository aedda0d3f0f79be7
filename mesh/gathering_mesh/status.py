"""Turn a DomainError into a gRPC status with google.rpc details, and such a status back.

The one place that knows both sides. Details: `ErrorInfo` always (reason, domain `gathering`),
`BadRequest` where fields are wrong, `RetryInfo` where a retry is worth it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import grpc
from google.protobuf import duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from gathering_mesh import errors
from gathering_mesh.errors import DomainError

DOMAIN = "gathering"
DETAILS_KEY = "grpc-status-details-bin"
# Bytes. Clients take 8 KiB of headers for sure: of these a message takes up to three times its
# length, for what is not ASCII is escaped, and details a third more than theirs.
_MESSAGE_LIMIT = 800
_DETAILS_LIMIT = 4000
_BASES: dict[str, type[DomainError]] = {
    base.status: base
    for base in (
        errors.InvalidArgument, errors.NotFound, errors.AlreadyExists, errors.PermissionDenied,
        errors.Unauthenticated, errors.FailedPrecondition, errors.Aborted,
        errors.ResourceExhausted, errors.Unavailable, errors.DeadlineExceeded, errors.Cancelled,
        errors.DataLoss, errors.Internal,
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class WireError:
    """An error as gRPC sends it."""

    code: grpc.StatusCode
    message: str
    metadata: tuple[tuple[str, str | bytes], ...]


def to_wire(error: DomainError, correlation_id: str) -> WireError:
    """Return the status of an error; `correlation_id` becomes metadata `request_id`."""
    code = grpc.StatusCode[error.status]
    message = error.message.encode()[:_MESSAGE_LIMIT].decode(errors="ignore")
    status = status_pb2.Status(code=code.value[0], message=message)
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    info.metadata.update(error.metadata)
    info.metadata["request_id"] = correlation_id
    status.details.add().Pack(info)
    if error.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(round(error.retry_after * 1000))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    if error.fields:
        room = _DETAILS_LIMIT - status.ByteSize()
        status.details.add().Pack(_bad_request(error.fields.items(), room))
    return WireError(code, message, ((DETAILS_KEY, status.SerializeToString()),))


def _bad_request(fields: Iterable[tuple[str, str]], room: int) -> error_details_pb2.BadRequest:
    """Return as many violations as fit; the first always does."""
    bad = error_details_pb2.BadRequest()
    for path, problem in fields:
        bad.field_violations.add(field=path[:500], description=problem[:500])
        if bad.ByteSize() > room and len(bad.field_violations) > 1:
            del bad.field_violations[-1]
            break
    return bad


def from_rpc_error(error: grpc.aio.AioRpcError, peer: str) -> DomainError:
    """Return what a peer answered as an error of ours: same status, reason and details.

    A status that no contract of ours uses (UNKNOWN, UNIMPLEMENTED, ...) becomes Internal.
    """
    base = _BASES.get(error.code().name, errors.Internal)
    status = _details(error)
    message = error.details() or ""
    if base is errors.Internal:
        message = f"{peer} failed inside"
    elif base is errors.Unavailable and status is None:
        message = f"{peer} cannot be reached"
    found = _Unpacked(status)
    reason = found.info.reason if found.info.domain == DOMAIN else None
    return base(
        message or f"{peer} refused the call",
        reason=reason or None,
        fields={v.field: v.description for v in found.bad.field_violations},
        metadata=dict(found.info.metadata),
        retry_after=found.retry_after,
    )


def _details(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None


class _Unpacked:
    """The details of a status by their kind; absent ones are empty."""

    def __init__(self, status: status_pb2.Status | None) -> None:
        self.info = error_details_pb2.ErrorInfo()
        self.bad = error_details_pb2.BadRequest()
        self.retry_after: float | None = None
        retry = error_details_pb2.RetryInfo()
        for detail in status.details if status is not None else ():
            if detail.Unpack(self.info) or detail.Unpack(self.bad):
                continue
            if detail.Unpack(retry):
                self.retry_after = retry.retry_delay.ToMilliseconds() / 1000
