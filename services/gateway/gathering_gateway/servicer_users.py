"""Serves `UserService` and `InvitationService`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration

from gathering.gateway.v1 import auth_pb2
from gathering.gateway.v1 import invitation_service_pb2 as invitations_pb
from gathering.gateway.v1 import user_service_pb2 as pb
from gathering_gateway import convert
from gathering_gateway.invitations import Inviting
from gathering_gateway.membership import Membership
from gathering_mesh.call import Call


@dataclass(frozen=True, slots=True)
class UserServicer:
    """Converts, calls a verb, converts."""

    membership: Membership

    async def GetUser(self, request: pb.GetUserRequest, call: Call) -> auth_pb2.User:
        """Return a user."""
        return convert.user_message(await self.membership.get(call, request.user_id))

    async def ChangeUserRole(self, request: pb.ChangeUserRoleRequest, call: Call) -> auth_pb2.User:
        """Give a user a role."""
        role = convert.role(request.role)
        return convert.user_message(await self.membership.change_role(call, request.user_id, role))

    async def DisableUser(self, request: pb.DisableUserRequest, call: Call) -> auth_pb2.User:
        """Keep a user out."""
        return convert.user_message(await self.membership.disable(call, request.user_id))

    async def EnableUser(self, request: pb.EnableUserRequest, call: Call) -> auth_pb2.User:
        """Let a user in."""
        return convert.user_message(await self.membership.enable(call, request.user_id))

    async def ChangePassword(self, request: pb.ChangePasswordRequest, call: Call) -> auth_pb2.User:
        """Change the caller's password."""
        changed = await self.membership.change_password(
            call, request.old_password, request.new_password
        )
        return convert.user_message(changed)

    async def ListLogins(self, request: pb.ListLoginsRequest, call: Call) -> pb.ListLoginsResponse:
        """List the caller's logins."""
        logins, following = await self.membership.page(call, request.page_size, request.page_token)
        return pb.ListLoginsResponse(
            logins=map(convert.login_message, logins), next_page_token=following
        )

    async def RevokeLogins(self, request: pb.RevokeLoginsRequest, call: Call) -> auth_pb2.User:
        """End all logins of a user."""
        return convert.user_message(await self.membership.end_logins(call, request.user_id))


@dataclass(frozen=True, slots=True)
class InvitationServicer:
    """Converts, calls a verb, converts."""

    inviting: Inviting

    async def CreateInvitation(
        self, request: invitations_pb.CreateInvitationRequest, call: Call
    ) -> invitations_pb.CreateInvitationResponse:
        """Invite somebody."""
        life = _life(request.time_to_live, request.HasField("time_to_live"))
        role = convert.role(request.role)
        made, secret = await self.inviting.create(
            call, request.email, request.display_name, role, life
        )
        return invitations_pb.CreateInvitationResponse(
            invitation=convert.invitation_message(made), secret=secret
        )

    async def ResetPassword(
        self, request: invitations_pb.ResetPasswordRequest, call: Call
    ) -> invitations_pb.CreateInvitationResponse:
        """Let a user set another password."""
        life = _life(request.time_to_live, request.HasField("time_to_live"))
        made, secret = await self.inviting.reset(call, request.user_id, life)
        return invitations_pb.CreateInvitationResponse(
            invitation=convert.invitation_message(made), secret=secret
        )

    async def AcceptInvitation(
        self, request: invitations_pb.AcceptInvitationRequest, call: Call
    ) -> auth_pb2.User:
        """Set a password."""
        return convert.user_message(
            await self.inviting.accept(call, request.secret, request.password)
        )

    async def ListInvitations(
        self, request: invitations_pb.ListInvitationsRequest, call: Call
    ) -> invitations_pb.ListInvitationsResponse:
        """List the open invitations."""
        found, following = await self.inviting.page(call, request.page_size, request.page_token)
        return invitations_pb.ListInvitationsResponse(
            invitations=map(convert.invitation_message, found), next_page_token=following
        )

    async def RevokeInvitation(
        self, request: invitations_pb.RevokeInvitationRequest, call: Call
    ) -> auth_pb2.Invitation:
        """Revoke an invitation."""
        return convert.invitation_message(await self.inviting.revoke(call, request.invitation_id))


def _life(given: Duration, present: bool) -> timedelta | None:
    return given.ToTimedelta() if present else None
