"""What a call can fail with."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
from google.rpc import error_details_pb2, status_pb2

_DETAILS = "grpc-status-details-bin"


@dataclass
class GatheringError(Exception):
    """An error that the mesh answered, or that the way to it gave.

    `status` is the gRPC status's name, `reason` a name of `gathering.errors.v1.ErrorReason` without
    its prefix (empty when the mesh was not reached), `fields` maps a field's path to what is wrong
    with it, `retry_after` is in seconds, `metadata` says more to programs.
    """

    status: str
    reason: str
    message: str
    fields: Mapping[str, str] = field(default_factory=dict)
    retry_after: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the message with each field's fault, for people."""
        reason = f" [{self.reason}]" if self.reason else ""
        return "\n".join(
            [
                f"{self.message}{reason}",
                *(f"  {path}: {what}" for path, what in self.fields.items()),
            ]
        )


class StreamCutError(GatheringError):
    """A stream ended without its terminal frame, and going on failed too."""


@contextmanager
def readable_errors() -> Iterator[None]:
    """Raise gRPC's errors as GatheringError."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise of_rpc_error(error) from None


def of_rpc_error(error: grpc.aio.AioRpcError) -> GatheringError:
    """Return what an answer's status and details say."""
    result = GatheringError(error.code().name, "", error.details() or error.code().name)
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS and isinstance(value, bytes):
            _read_details(value, result)
    return result


def _read_details(value: bytes, into: GatheringError) -> None:
    info, bad, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
    )
    for detail in status_pb2.Status.FromString(value).details:
        if detail.Unpack(info):
            into.reason, into.metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(bad):
            into.fields = {each.field: each.description for each in bad.field_violations}
        elif detail.Unpack(retry):
            into.retry_after = retry.retry_delay.ToTimedelta().total_seconds()
