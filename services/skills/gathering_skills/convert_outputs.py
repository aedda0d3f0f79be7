"""Proto to model and back, for what tools tell."""

from __future__ import annotations

from gathering.skills.v1 import execution_pb2
from gathering.skills.v1 import execution_service_pb2 as pb
from gathering_skills.convert import execution_message
from gathering_skills.models import Execution
from gathering_skills.models_outputs import Output, OutputPart, Place


def place_of(request: pb.WatchExecutionRequest) -> Place | None:
    """Return from where on a request wants what the tool tells, None if it does not."""
    if not request.follow_output:
        return None
    return Place(request.output_attempt, request.output_offset_bytes)


def watched_message(found: Execution | Output) -> pb.WatchExecutionResponse:
    """Return a state, or a piece of output."""
    if isinstance(found, Output):
        return pb.WatchExecutionResponse(output=output_message(found))
    return pb.WatchExecutionResponse(execution=execution_message(found), end=found.state.ended)


def part_message(part: OutputPart) -> pb.ReadExecutionOutputResponse:
    """Return a part of an output."""
    return pb.ReadExecutionOutputResponse(
        output=output_message(part.output),
        next_offset_bytes=part.output.end.offset,
        total_bytes=part.total,
        complete=part.complete,
        cut=part.cut,
    )


def output_message(output: Output) -> execution_pb2.ExecutionOutput:
    """Return some output."""
    return execution_pb2.ExecutionOutput(
        attempt=output.attempt, offset_bytes=output.offset, text=output.text
    )
