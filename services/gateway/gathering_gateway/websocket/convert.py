"""Frames of the WebSocket, from and to JSON."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import status_pb2

from gathering.gateway.v1 import websocket_pb2 as pb
from gathering_gateway.websocket.models import Unusable
from gathering_mesh.errors import DomainError, InvalidArgument, ResourceExhausted
from gathering_mesh.status import to_wire
from gathering_mesh.streams import Encoded
from gathering_mesh.validation import Validator

Json = dict[str, Any]
_KEPT = 64  # answers; whoever is further behind has them converted anew

# How json_format names a field that it cannot read; its path begins in the call's message.
_WITHIN = re.compile(r"Failed to parse (\w+) field: ")
_UNKNOWN = re.compile(r'Message type "[\w.]+" has no field named "([^"]{1,100})"')

_validator = Validator()


def read_frame(data: str | bytes, most: int) -> pb.ClientFrame:
    """Return a frame of at most so many bytes; Unusable where it is none."""
    if isinstance(data, bytes):
        raise _malformed("", "frames are text: binary messages are not taken")
    if len(data) > most or len(data.encode()) > most:
        error = ResourceExhausted(f"a frame has at most {most} bytes", reason="MESSAGE_TOO_LARGE")
        raise Unusable("", error)
    found = _json(data)
    id = found.get("id")
    known = id if isinstance(id, str) else ""
    frame = _frame(found, known)
    try:
        _validator.check(pb.ClientFrame(id=frame.id))
    except InvalidArgument as error:
        raise Unusable("", error) from error
    if not frame.WhichOneof("call"):
        calls = ", ".join(field.name for field in pb.ClientFrame.DESCRIPTOR.oneofs[0].fields)
        raise _malformed(known, f"the frame has no call; it is one of {calls}")
    return frame


def _json(text: str) -> Json:
    try:
        found = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise _malformed("", f"the frame is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise _malformed("", "the frame is no JSON object")
    return found


def _frame(found: Json, id: str) -> pb.ClientFrame:
    try:
        return json_format.ParseDict(found, pb.ClientFrame())
    except (json_format.ParseError, ValueError, RecursionError) as error:
        # What comes after the first sentence lists all fields of the message.
        problem = str(error).partition(" Available Fields")[0]
        told = f"the frame is not of the contract: {problem}"
        raise _malformed(id, told, _violation(problem)) from error


def _violation(problem: str) -> dict[str, str]:
    """Return the path of the field that json_format refuses, and why; none where it names none."""
    path = []
    while within := _WITHIN.match(problem):
        path.append(within[1])
        problem = problem[within.end() :]
    if unknown := _UNKNOWN.match(problem):
        path.append(unknown[1])
        problem = "is unknown"
    return {".".join(path): problem} if path else {}


def _malformed(id: str, message: str, fields: Mapping[str, str] | None = None) -> Unusable:
    return Unusable(id, InvalidArgument(message, reason="MALFORMED_REQUEST", fields=fields))


def _once(pairs: Sequence[tuple[str, Any]]) -> Json:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice[:100]!r} is there twice")
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


class Texts:
    """Answers as frames; what many subscribers get is converted for the first of them alone."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Encoded, str] = OrderedDict()

    def answer(self, id: str, name: str, answer: Message | Encoded) -> str:
        """Return the frame of an answer; `name` is the name of the call."""
        text = self._shared(answer) if isinstance(answer, Encoded) else _compact(_dict(answer))
        return f'{{"id":{_compact(id)},"message":{{"{name}":{text}}}}}'

    def _shared(self, answer: Encoded) -> str:
        text = self._kept.get(answer)
        if text is None:
            text = _compact(_dict(answer.kind.FromString(answer.data)))
            self._kept[answer] = text
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return text


def end_text(id: str) -> str:
    """Return the frame after the last answer."""
    return _text(id, "end", {})


def reconnect_text(reason: str) -> str:
    """Return the last frame of a connection."""
    return _text("", "reconnect", {"reason": reason})


def error_text(id: str, error: DomainError, request_id: str) -> str:
    """Return the frame of an error; `request_id` is the call's, for who looks for it in logs."""
    return _text(id, "error", _status(error, request_id))


def error_json(error: DomainError, request_id: str) -> str:
    """Return the body of a refusal, as by REST."""
    return json.dumps(_status(error, request_id))


def _status(error: DomainError, request_id: str) -> Json:
    ((_, details),) = to_wire(error, request_id).metadata
    assert isinstance(details, bytes)  # noqa: S101 (for the type checker)
    return _dict(status_pb2.Status.FromString(details))


def _dict(message: Message) -> Json:
    """Return JSON as REST has it."""
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _text(id: str, kind: str, content: Json) -> str:
    return _compact({"id": id, kind: content})


def _compact(content: Json | str) -> str:
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False)
