"""SessionService."""

from __future__ import annotations

from gathering.agent.v1 import session_pb2, session_service_pb2
from gathering_agent.convert import message_message, session_message
from gathering_agent.sessions import Sessions
from gathering_mesh.call import Call
from gathering_mesh.paging import decode_token, encode_token, page_size, query_fingerprint

_PAGE_BYTES = 2 * 1024 * 1024  # clients take 4 MiB unless told otherwise


class SessionServicer:
    """Serves `gathering.agent.v1.SessionService`."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def CreateSession(
        self, request: session_service_pb2.CreateSessionRequest, call: Call
    ) -> session_pb2.Session:
        """Create a session."""
        return session_message(
            await self._sessions.create(call, request.agent_id, request.title, request.workspace_id)
        )

    async def GetSession(
        self, request: session_service_pb2.GetSessionRequest, call: Call
    ) -> session_pb2.Session:
        """Return a session."""
        return session_message(await self._sessions.get(call, request.session_id))

    async def ListSessions(
        self, request: session_service_pb2.ListSessionsRequest, call: Call
    ) -> session_service_pb2.ListSessionsResponse:
        """Return a page of the caller's sessions."""
        size = page_size(request.page_size)
        query = query_fingerprint(call.method, call.tenant, call.user, request.agent_id)
        key = decode_token(query, request.page_token)
        found = await self._sessions.page(
            call, agent_id=request.agent_id, before=str(key[0]) if key else "", limit=size + 1
        )
        page = found[:size]
        return session_service_pb2.ListSessionsResponse(
            sessions=map(session_message, page),
            next_page_token=encode_token(query, [page[-1].id]) if len(found) > size else "",
        )

    async def ListMessages(
        self, request: session_service_pb2.ListMessagesRequest, call: Call
    ) -> session_service_pb2.ListMessagesResponse:
        """Return a page of a session's messages."""
        size = page_size(request.page_size)
        query = query_fingerprint(call.method, call.tenant, request.session_id)
        key = decode_token(query, request.page_token, (int,))
        found = await self._sessions.messages(
            call, request.session_id, after=key[0] if key else 0, limit=size + 1
        )
        page = _fitting([message_message(message) for message in found[:size]])
        more = len(found) > len(page)
        return session_service_pb2.ListMessagesResponse(
            messages=page,
            next_page_token=encode_token(query, [page[-1].sequence]) if more else "",
        )


def _fitting(messages: list[session_pb2.Message]) -> list[session_pb2.Message]:
    """Return the first messages, at least one, that fit into an answer of a usual size."""
    room = _PAGE_BYTES
    for place, message in enumerate(messages):
        room -= message.ByteSize()
        if room < 0:
            return messages[: max(1, place)]
    return messages
