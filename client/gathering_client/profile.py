"""Which mesh a command talks to, and how it logs in."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from gathering_client.connection import Gathering
from gathering_client.login import ApiKey, Credentials, Login


class NoMeshError(Exception):
    """There is no mesh to talk to; the message says what to do."""


class NoneKnownError(NoMeshError):
    """Nobody has said which mesh, and none runs here."""


@dataclass(frozen=True)
class Profile:
    """An address and a way to log in."""

    url: str
    credentials: Credentials

    def connect(self) -> Gathering:
        """Return a connection; nothing is sent yet.

        Raises:
            NoMeshError: the address is none.

        """
        try:
            return Gathering(self.url, self.credentials)
        except ValueError as error:
            raise NoMeshError(str(error)) from None


def find_profile() -> Profile:
    """Return the mesh of the environment, of `gathering login`, or the one on this machine.

    Raises:
        NoneKnownError: there is none.
        NoMeshError: what the environment or the saved login says is not complete.

    """
    found = _of_environment() or _saved() or _local()
    if found is None:
        raise NoneKnownError(
            "No mesh is known. Start one with `gathering up`, log in with `gathering login URL`, "
            "or set GATHERING_URL and GATHERING_API_KEY."
        )
    return found


def save(url: str, api_key: str) -> Path:
    """Keep a login for later commands, in a file that only this user may read."""
    path = saved_file()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump({"url": url, "api_key": api_key}, file)
    temporary.replace(path)
    return path


def saved_file() -> Path:
    """Return where a login is kept."""
    folder = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(folder) / "gathering" / "login.json"


def _of_environment() -> Profile | None:
    url, key = os.environ.get("GATHERING_URL"), os.environ.get("GATHERING_API_KEY")
    email, password = os.environ.get("GATHERING_EMAIL"), os.environ.get("GATHERING_PASSWORD")
    if url and key:
        return Profile(url, ApiKey(key))
    if url and email and password:
        return Profile(url, Login(email, password))
    if url:
        raise NoMeshError(
            "GATHERING_URL is set, but neither GATHERING_API_KEY nor GATHERING_EMAIL and "
            "GATHERING_PASSWORD."
        )
    return None


def _saved() -> Profile | None:
    try:
        content = json.loads(saved_file().read_text())
        return Profile(content["url"], ApiKey(content["api_key"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise NoMeshError(
            f"{saved_file()} cannot be read; `gathering login` writes it anew."
        ) from None


def _local() -> Profile | None:
    try:
        from gathering_local.addresses import ADMIN_EMAIL
        from gathering_local.home import Home, default_home
        from gathering_local.starting import running
    except ImportError:
        return None
    home = Home(default_home())
    status = running(home)
    return Profile(status.url, Login(ADMIN_EMAIL, home.secret("admin"))) if status else None
