"""An agent asks before it uses a tool: its turn waits for a person, and goes on with the answer."""

from __future__ import annotations

import pytest

from gathering.agent.v1 import session_service_pb2, turn_pb2, turn_service_pb2
from gathering.skills.v1 import execution_pb2, execution_service_pb2
from gathering_client import Gathering
from gathering_client.streams import follow_events, follow_turn
from tests.e2e.makers import SECRET_FILE, Maker


async def said(client: Gathering, turn_id: str) -> str:
    """Wait for the end of a turn; return what the agent said."""
    ended = ["turn_completed", "turn_failed", "turn_cancelled"]
    async for followed in follow_events(client, types=ended, cursor="start"):
        if followed.event and followed.event.aggregate_id == turn_id:
            break
    turn = await client.turns.GetTurn(turn_service_pb2.GetTurnRequest(turn_id=turn_id))
    assert turn.state == turn_pb2.TURN_STATE_COMPLETED, turn
    page = await client.sessions.ListMessages(
        session_service_pb2.ListMessagesRequest(session_id=turn.session_id)
    )
    return "\n".join(message.text for message in page.messages)


async def told_of(client: Gathering, turn_id: str) -> str:
    """Return the execution of which the turn's stream says that it awaits approval."""
    async for frame in follow_turn(client, turn_id):
        if frame.HasField("tool_awaits_approval"):
            return frame.tool_awaits_approval.execution_id
    raise AssertionError("the turn ended")


@pytest.mark.parametrize("approved", [True, False], ids=["approved", "denied"])
async def test_turn_waits_for_a_persons_answer_and_goes_on_with_it(
    client: Gathering, maker: Maker, approved: bool
) -> None:
    asked = await maker.question()
    assert asked.tool == "fs_read"
    assert asked.arguments["path"] == SECRET_FILE
    assert await told_of(client, asked.turn_id) == asked.execution_id
    if approved:
        await client.executions.ApproveExecution(
            execution_service_pb2.ApproveExecutionRequest(
                execution_id=asked.execution_id, digest=asked.approval.digest
            )
        )
    else:
        await client.executions.DenyExecution(
            execution_service_pb2.DenyExecutionRequest(
                execution_id=asked.execution_id,
                digest=asked.approval.digest,
                comment="that file is private",
            )
        )
    text = await said(client, asked.turn_id)
    assert ("the secret of" in text) is approved
    assert ("that file is private" in text) is not approved


async def test_cancelled_turn_takes_its_question_back(client: Gathering, maker: Maker) -> None:
    asked = await maker.question()
    await client.turns.CancelTurn(turn_service_pb2.CancelTurnRequest(turn_id=asked.turn_id))
    async for message in client.executions.WatchExecution(
        execution_service_pb2.WatchExecutionRequest(execution_id=asked.execution_id)
    ):
        if message.end:
            assert message.execution.state == execution_pb2.EXECUTION_STATE_CANCELLED
