"""What a workspace is the home of, as the contract has it; pure."""

from __future__ import annotations

from google.protobuf import json_format

from gathering.skills.v1 import project_context_pb2
from gathering_skills.models import JsonObject


def project_message(workspace_id: str, found: JsonObject) -> project_context_pb2.ProjectContext:
    """Return what was derived as the contract has it."""
    message = project_context_pb2.ProjectContext()
    json_format.ParseDict({**found, "workspace_id": workspace_id}, message)
    return message
