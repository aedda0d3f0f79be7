"""SessionService."""

from __future__ import annotations

from gathering.agent.v1 import session_archive_pb2, session_pb2, session_service_pb2
from gathering_agent.convert import image_message, message_message
from gathering_agent.models import Session
from gathering_agent.sessions.archives import Archives
from gathering_agent.sessions.convert import (
    archive_message,
    archive_of,
    fields_of,
    session_message,
)
from gathering_agent.sessions.keeping import Keeping, session_etag
from gathering_agent.sessions.models import SessionFilter
from gathering_agent.sessions.sessions import Sessions
from gathering_mesh.call import Call
from gathering_mesh.paging import decode_token, encode_token, page_size, query_fingerprint

_PAGE_BYTES = 2 * 1024 * 1024  # clients take 4 MiB unless told otherwise


class SessionServicer:
    """Serves `gathering.agent.v1.SessionService`."""

    def __init__(self, sessions: Sessions, keeping: Keeping, archives: Archives) -> None:
        self._sessions = sessions
        self._keeping = keeping
        self._archives = archives

    async def CreateSession(
        self, request: session_service_pb2.CreateSessionRequest, call: Call
    ) -> session_pb2.Session:
        """Create a session."""
        return _message(
            await self._sessions.create(
                call, request.agent_id, fields_of(request), request.workspace_id
            )
        )

    async def GetSession(
        self, request: session_service_pb2.GetSessionRequest, call: Call
    ) -> session_pb2.Session:
        """Return a session."""
        return _message(await self._sessions.get(call, request.session_id))

    async def ListSessions(
        self, request: session_service_pb2.ListSessionsRequest, call: Call
    ) -> session_service_pb2.ListSessionsResponse:
        """Return a page of the caller's sessions."""
        size = page_size(request.page_size)
        which = SessionFilter(
            owner=call.user,
            agent_id=request.agent_id,
            query=request.query.strip(),
            workspace_id=request.workspace_id,
            parent_session_id=request.parent_session_id,
        )
        query = query_fingerprint(call.method, call.tenant, which)
        key = decode_token(query, request.page_token)
        page, following = await self._sessions.page(
            call, which, before=str(key[0]) if key else "", size=size
        )
        return session_service_pb2.ListSessionsResponse(
            sessions=map(_message, page),
            next_page_token=encode_token(query, [following]) if following else "",
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

    async def GetMessageImage(
        self, request: session_service_pb2.GetMessageImageRequest, call: Call
    ) -> session_pb2.Image:
        """Return a picture of a message."""
        image = await self._sessions.image(
            call, request.session_id, request.message_id, request.place
        )
        return image_message(image, image.data)

    async def UpdateSession(
        self, request: session_service_pb2.UpdateSessionRequest, call: Call
    ) -> session_pb2.Session:
        """Change a session."""
        mask = list(request.update_mask.paths)
        return _message(
            await self._keeping.update(
                call, request.session_id, fields_of(request.session), mask, request.etag
            )
        )

    async def ForkSession(
        self, request: session_service_pb2.ForkSessionRequest, call: Call
    ) -> session_pb2.Session:
        """Create a session that begins as another one."""
        return _message(
            await self._keeping.fork(call, request.session_id, request.message_id, request.title)
        )

    async def ExportSession(
        self, request: session_service_pb2.ExportSessionRequest, call: Call
    ) -> session_archive_pb2.SessionArchive:
        """Return a session as a document."""
        return archive_message(
            await self._archives.export(
                call, request.session_id, request.after_sequence, images=not request.without_images
            )
        )

    async def ImportSession(
        self, request: session_service_pb2.ImportSessionRequest, call: Call
    ) -> session_pb2.Session:
        """Create a session from a document."""
        archive = archive_of(request.archive)
        return _message(
            await self._archives.import_(call, request.agent_id, archive, request.workspace_id)
        )

    async def DeleteSession(
        self, request: session_service_pb2.DeleteSessionRequest, call: Call
    ) -> session_service_pb2.DeleteSessionResponse:
        """Delete a session for good."""
        return session_service_pb2.DeleteSessionResponse(
            session_id=await self._keeping.delete(call, request.session_id, force=request.force)
        )


def _message(session: Session) -> session_pb2.Session:
    return session_message(session, session_etag(session))


def _fitting(messages: list[session_pb2.Message]) -> list[session_pb2.Message]:
    """Return the first messages, at least one, that fit into an answer of a usual size."""
    room = _PAGE_BYTES
    for place, message in enumerate(messages):
        room -= message.ByteSize()
        if room < 0:
            return messages[: max(1, place)]
    return messages
