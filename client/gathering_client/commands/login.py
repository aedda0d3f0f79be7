"""gathering login, logout, whoami."""

import socket
from typing import Annotated

import typer

from gathering.gateway.v1 import auth_pb2
from gathering.gateway.v1 import auth_service_pb2 as pb
from gathering_client.connection import Gathering
from gathering_client.login import Login
from gathering_client.output import console, print_json, with_mesh
from gathering_client.profile import Profile, save, saved_file

app = typer.Typer()


@app.command()
def login(
    url: Annotated[str, typer.Argument(help="Of the edge, such as https://mesh.example.org.")],
    email: Annotated[str, typer.Option(prompt=True, help="Of your user.")],
    password: Annotated[str, typer.Option(prompt=True, hide_input=True, help="Better typed.")],
) -> None:
    """Log in to a mesh and keep an API key of yours for later commands."""

    async def work(mesh: Gathering) -> None:
        request = pb.CreateApiKeyRequest(display_name=f"gathering on {socket.gethostname()}"[:100])
        created = await mesh.auth.CreateApiKey(request)
        console.print(f"Logged in. The key is in {save(url, created.secret)}.")

    with_mesh(work, Profile(url, Login(email, password)))


@app.command()
def logout() -> None:
    """Forget the login of `gathering login` on this machine; the key itself stays valid."""
    saved_file().unlink(missing_ok=True)
    console.print("Forgotten.")


@app.command()
def whoami(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Tell which mesh and user the commands talk as."""

    async def work(mesh: Gathering) -> None:
        user = await mesh.auth.GetMe(pb.GetMeRequest())
        if as_json:
            print_json(user)
            return
        role = auth_pb2.Role.Name(user.role).removeprefix("ROLE_").lower()
        console.print(f"{user.email}, {role}, at {mesh.url}", markup=False)

    with_mesh(work)
