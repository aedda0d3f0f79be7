"""Turns through the port: answers, tools, results, bounds, failures."""

from __future__ import annotations

from gathering.agent.v1 import session_pb2, turn_pb2
from tests.integration.agent.harness import Service, texts


async def test_chat_answers_and_stores_the_conversation(service: Service) -> None:
    user = service.caller()
    session = await user.session()
    turn = await user.chat(session.session_id, "good morning")
    assert turn.state == turn_pb2.TURN_STATE_COMPLETED
    assert turn.text.strip() == "You said: good morning"
    assert (turn.usage.model_call_count, turn.usage.input_token_count) == (1, 7)
    stored = await user.messages(session.session_id)
    assert [m.role for m in stored] == [
        session_pb2.MESSAGE_ROLE_USER,
        session_pb2.MESSAGE_ROLE_ASSISTANT,
    ]
    assert [m.sequence for m in stored] == [1, 2]


async def test_stream_ends_with_the_turn_and_holds_the_whole_text(service: Service) -> None:
    user = service.caller()
    session = await user.session()
    turn = await user.start(session.session_id, "one two three four five")
    frames = [frame async for frame in user.watch(turn.turn_id)]
    assert frames[0].WhichOneof("frame") == "turn"
    assert frames[-1].WhichOneof("frame") == "completed"
    assert texts(frames)[1] == frames[-1].completed.text
