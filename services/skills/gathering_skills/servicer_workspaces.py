"""WorkspaceService."""

from __future__ import annotations

from gathering.skills.v1 import project_context_pb2
from gathering.skills.v1 import workspace_service_pb2 as pb
from gathering_mesh.call import Call
from gathering_skills.convert import workspace_message
from gathering_skills.convert_projects import project_message
from gathering_skills.projects import Projects
from gathering_skills.workspaces import Workspaces


class WorkspaceServicer:
    """Serves `gathering.skills.v1.WorkspaceService`."""

    def __init__(self, workspaces: Workspaces, projects: Projects) -> None:
        self._workspaces = workspaces
        self._projects = projects

    async def CreateWorkspace(self, request: pb.CreateWorkspaceRequest, call: Call) -> pb.Workspace:
        """Make a directory a workspace."""
        return workspace_message(
            await self._workspaces.create(call, request.path, request.display_name)
        )

    async def GetWorkspace(self, request: pb.GetWorkspaceRequest, call: Call) -> pb.Workspace:
        """Return a workspace."""
        return workspace_message(await self._workspaces.get(call, request.workspace_id))

    async def ListWorkspaces(
        self, request: pb.ListWorkspacesRequest, call: Call
    ) -> pb.ListWorkspacesResponse:
        """Return a page of workspaces."""
        page = await self._workspaces.page(call, request.page_size, request.page_token)
        return pb.ListWorkspacesResponse(
            workspaces=map(workspace_message, page.workspaces),
            next_page_token=page.next_page_token,
        )

    async def GetProjectContext(
        self, request: pb.GetProjectContextRequest, call: Call
    ) -> project_context_pb2.ProjectContext:
        """Return what the files of a workspace say of it."""
        found = await self._projects.get(call, request.workspace_id)
        return project_message(request.workspace_id, found)

    async def ReadFile(self, request: pb.ReadFileRequest, call: Call) -> pb.ReadFileResponse:
        """Return a part of a file."""
        part = await self._workspaces.read_file(
            call, request.workspace_id, request.path, request.offset_bytes, request.limit_bytes
        )
        return pb.ReadFileResponse(
            content=part.content, size_bytes=part.size_bytes, sha256=part.sha256
        )
