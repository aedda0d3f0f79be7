"""TurnService."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace

from gathering.agent.v1 import turn_context_pb2, turn_pb2, turn_service_pb2
from gathering_agent.budgets.convert import caps_of
from gathering_agent.budgets.usage import UsageReport
from gathering_agent.context.convert import context_message, strategy_of
from gathering_agent.convert import unstruct
from gathering_agent.ports import TurnFilter
from gathering_agent.providers.models_calls import Place
from gathering_agent.streams.watching import Watching
from gathering_agent.turns.convert import (
    attempt_message,
    frame_message,
    limits_of,
    timeout_of,
    turn_message,
)
from gathering_agent.turns.turns import Asked, Turns
from gathering_mesh.call import Call
from gathering_mesh.paging import decode_token, encode_token, page_size, query_fingerprint

_Request = (
    turn_service_pb2.StartTurnRequest
    | turn_service_pb2.ChatRequest
    | turn_service_pb2.StreamChatRequest
)
_CHAT_SECONDS = 300.0  # for callers without a deadline
_ANSWER_SECONDS = 0.2  # between our answer and the caller's deadline


class TurnServicer:
    """Serves `gathering.agent.v1.TurnService`."""

    def __init__(self, turns: Turns, watching: Watching, usage: UsageReport) -> None:
        self._turns = turns
        self._watching = watching
        self._usage = usage

    async def StartTurn(
        self, request: turn_service_pb2.StartTurnRequest, call: Call
    ) -> turn_pb2.Turn:
        """Start a turn."""
        asked = replace(_asked(request), task_id=request.task_id)
        return turn_message(await self._turns.start(call, asked))

    async def GetTurn(self, request: turn_service_pb2.GetTurnRequest, call: Call) -> turn_pb2.Turn:
        """Return a turn."""
        return turn_message(await self._turns.get(call, request.turn_id))

    async def GetTurnContext(
        self, request: turn_service_pb2.GetTurnContextRequest, call: Call
    ) -> turn_context_pb2.TurnContext:
        """Return what went into the prompt of a step."""
        return context_message(await self._turns.context(call, request.turn_id, request.step))

    async def ListTurns(
        self, request: turn_service_pb2.ListTurnsRequest, call: Call
    ) -> turn_service_pb2.ListTurnsResponse:
        """Return a page of turns."""
        size = page_size(request.page_size)
        which = TurnFilter("", request.session_id, request.task_id, request.agent_id)
        query = query_fingerprint(call.method, call.tenant, call.user, which)
        key = decode_token(query, request.page_token)
        found = await self._turns.page(
            call, which, before=str(key[0]) if key else "", limit=size + 1
        )
        page = found[:size]
        return turn_service_pb2.ListTurnsResponse(
            turns=map(turn_message, page),
            next_page_token=encode_token(query, [page[-1].id]) if len(found) > size else "",
        )

    async def ListModelAttempts(
        self, request: turn_service_pb2.ListModelAttemptsRequest, call: Call
    ) -> turn_service_pb2.ListModelAttemptsResponse:
        """Return a page of a turn's attempts at model calls."""
        size = page_size(request.page_size)
        query = query_fingerprint(call.method, call.tenant, call.user, request.turn_id)
        key = decode_token(query, request.page_token, (int, int, int))
        after = Place(*key) if key else None
        found = await self._usage.attempts(call, request.turn_id, after, size + 1)
        page = found[:size]
        return turn_service_pb2.ListModelAttemptsResponse(
            attempts=map(attempt_message, page),
            next_page_token=encode_token(query, [*page[-1].place]) if len(found) > size else "",
        )

    async def WatchTurn(
        self, request: turn_service_pb2.WatchTurnRequest, call: Call
    ) -> AsyncGenerator[turn_service_pb2.WatchTurnResponse, None]:
        """Stream a turn."""
        async for frame in self._watching.watch(call, request.turn_id, request.after):
            yield turn_service_pb2.WatchTurnResponse(frame=frame_message(frame))

    async def Chat(self, request: turn_service_pb2.ChatRequest, call: Call) -> turn_pb2.Turn:
        """Start a turn and wait for its end."""
        turn = await self._turns.start(call, _asked(request))
        remaining = call.remaining()
        seconds = _CHAT_SECONDS if remaining is None else remaining
        return turn_message(await self._watching.ended(call, turn, seconds - _ANSWER_SECONDS))

    async def StreamChat(
        self, request: turn_service_pb2.StreamChatRequest, call: Call
    ) -> AsyncGenerator[turn_service_pb2.StreamChatResponse, None]:
        """Start a turn and stream it."""
        turn = await self._turns.start(call, _asked(request))
        async for frame in self._watching.watch_new(call, turn):
            yield turn_service_pb2.StreamChatResponse(frame=frame_message(frame))

    async def CancelTurn(
        self, request: turn_service_pb2.CancelTurnRequest, call: Call
    ) -> turn_pb2.Turn:
        """Cancel a turn."""
        return turn_message(await self._turns.cancel(call, request.turn_id))


def _asked(request: _Request) -> Asked:
    schema = unstruct(request.result_schema) if request.HasField("result_schema") else None
    return Asked(
        request.session_id,
        request.text,
        limits=limits_of(request.limits),
        caps=caps_of(request.limits.budget),
        result_schema=schema,
        waits=request.if_busy == turn_pb2.IF_BUSY_QUEUE,
        timeout=timeout_of(request.limits),
        images=tuple(image.data for image in request.images),
        resume_strategy=strategy_of(request.resume_strategy),
    )
