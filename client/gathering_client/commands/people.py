"""gathering users, gathering keys: who may come in, and by which key."""

from datetime import timedelta
from typing import Annotated

import typer
from google.protobuf.duration_pb2 import Duration

from gathering.gateway.v1 import auth_pb2, invitation_service_pb2, user_service_pb2
from gathering.gateway.v1 import auth_service_pb2 as pb
from gathering_client.connection import Gathering
from gathering_client.output import console, print_json, print_table, with_mesh
from gathering_client.paging import all_pages

users = typer.Typer(help="Users of your tenant; for administrators.", no_args_is_help=True)
keys = typer.Typer(help="Your API keys.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="For programs.")]
_ROLES = {"admin": auth_pb2.ROLE_ADMIN, "member": auth_pb2.ROLE_MEMBER,
          "viewer": auth_pb2.ROLE_VIEWER}  # fmt: skip


@users.command("list")
def list_users(as_json: Json = False) -> None:
    """List the users by e-mail."""

    async def work(mesh: Gathering) -> None:
        pages = await all_pages(mesh.auth.ListUsers, pb.ListUsersRequest())
        found = [user for page in pages for user in page.users]
        if as_json:
            print_json(pb.ListUsersResponse(users=found))
            return
        print_table(
            ("user", "e-mail", "name", "role", ""),
            [
                (user.user_id, user.email, user.display_name, _role(user),
                 "disabled" if user.HasField("disable_time") else "")
                for user in found
            ],
        )  # fmt: skip

    with_mesh(work)


@users.command("invite")
def invite(
    email: str,
    role: Annotated[str, typer.Option(help="admin, member or viewer.")] = "member",
    name: Annotated[str, typer.Option(help="The name to show.")] = "",
    as_json: Json = False,
) -> None:
    """Invite somebody; hand them the secret that is printed: no mail is sent."""
    if role not in _ROLES:
        raise typer.BadParameter(f"{role!r} is none of {', '.join(_ROLES)}")
    request = invitation_service_pb2.CreateInvitationRequest(
        email=email, display_name=name, role=_ROLES[role]
    )

    async def work(mesh: Gathering) -> None:
        made = await mesh.invitations.CreateInvitation(request)
        print_json(made) if as_json else console.print(made.secret, markup=False)

    with_mesh(work)


@users.command("disable")
def disable(user_id: str) -> None:
    """Keep a user out, their API keys and running work included."""

    async def work(mesh: Gathering) -> None:
        await mesh.users.DisableUser(user_service_pb2.DisableUserRequest(user_id=user_id))
        console.print("Disabled.")

    with_mesh(work)


@users.command("enable")
def enable(user_id: str) -> None:
    """Let a user in again."""

    async def work(mesh: Gathering) -> None:
        await mesh.users.EnableUser(user_service_pb2.EnableUserRequest(user_id=user_id))
        console.print("Enabled.")

    with_mesh(work)


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="The name to show.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="Such as memory.read; default: all of yours.")
    ] = None,
    days: Annotated[float, typer.Option(min=0, help="How long it lives; 0: no end.")] = 0,
    as_json: Json = False,
) -> None:
    """Create an API key and print its secret, which is shown this once; needs a password login."""
    request = pb.CreateApiKeyRequest(display_name=name, scopes=scope or ())
    if days:
        life = Duration()
        life.FromTimedelta(timedelta(days=days))
        request.time_to_live.CopyFrom(life)

    async def work(mesh: Gathering) -> None:
        made = await mesh.auth.CreateApiKey(request)
        print_json(made) if as_json else console.print(made.secret, markup=False)

    with_mesh(work)


@keys.command("list")
def list_keys(as_json: Json = False) -> None:
    """List your keys, newest first."""

    async def work(mesh: Gathering) -> None:
        pages = await all_pages(mesh.auth.ListApiKeys, pb.ListApiKeysRequest())
        found = [key for page in pages for key in page.api_keys]
        if as_json:
            print_json(pb.ListApiKeysResponse(api_keys=found))
            return
        print_table(
            ("key", "name", "scopes", "last used", ""),
            [
                (key.api_key_id, key.display_name, " ".join(key.scopes) or "all",
                 key.last_use_time.ToJsonString() if key.HasField("last_use_time") else "never",
                 "revoked" if key.HasField("revoke_time") else "")
                for key in found
            ],
        )  # fmt: skip

    with_mesh(work)


@keys.command("revoke")
def revoke_key(api_key_id: str) -> None:
    """Revoke a key of yours."""

    async def work(mesh: Gathering) -> None:
        await mesh.auth.RevokeApiKey(pb.RevokeApiKeyRequest(api_key_id=api_key_id))
        console.print("Revoked.")

    with_mesh(work)


def _role(user: auth_pb2.User) -> str:
    return auth_pb2.Role.Name(user.role).removeprefix("ROLE_").lower()
