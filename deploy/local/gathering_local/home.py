"""The folder in which a local mesh keeps all that it is: data, keys, passwords, logs, state."""

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECRET_MODE = 0o600
_FOLDER_MODE = 0o711  # PostgreSQL may run as another user and must reach its own folder.


def default_home() -> Path:
    """Return GATHERING_HOME, or a folder below the user's data folder."""
    if chosen := os.environ.get("GATHERING_HOME"):
        return Path(chosen).absolute()
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "gathering"


@dataclass(frozen=True)
class Home:
    """Paths below one folder, and the secrets in it, each made once."""

    folder: Path

    @property
    def postgres(self) -> Path:
        """Return the folder of the embedded server."""
        return self.folder / "postgres"

    @property
    def keys(self) -> Path:
        """Return the folder of signing keys."""
        return self._made("keys")

    @property
    def logs(self) -> Path:
        """Return the folder of log files, one for each part."""
        return self._made("logs")

    @property
    def run(self) -> Path:
        """Return the folder of what is true of the present run only."""
        return self._made("run")

    @property
    def status_file(self) -> Path:
        """Return the file in which the supervisor says how each part is."""
        return self.run / "status.json"

    @property
    def lock_file(self) -> Path:
        """Return the file that a living supervisor holds locked."""
        return self.run / "supervisor.lock"

    def secret(self, name: str) -> str:
        """Return the password of this name; make it at the first call."""
        path = self._made("secrets") / name
        try:
            return path.read_text().strip()
        except FileNotFoundError:
            write_secret(path, secrets.token_urlsafe(24).encode())
            return path.read_text().strip()

    def secret_path(self, name: str) -> Path:
        """Return the file of the password of this name, made if need be."""
        self.secret(name)
        return self.folder / "secrets" / name

    def _made(self, name: str) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True, mode=_FOLDER_MODE)
        path = self.folder / name
        path.mkdir(exist_ok=True, mode=0o700)
        return path


def write_secret(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read; another writer's file of that name stays."""
    temporary = _written(path, content)
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()


def replace_secret(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, in place of one of that name."""
    _written(path, content).replace(path)


def _written(path: Path, content: bytes) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(
        os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, SECRET_MODE), "wb"
    ) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return temporary


def write_json(path: Path, content: Any) -> None:
    """Replace a JSON file in one step, so that readers see the old or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=1))
    temporary.chmod(SECRET_MODE)
    temporary.replace(path)
