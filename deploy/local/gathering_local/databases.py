"""The database of a local mesh: one schema and three roles for each service, migrated."""

import hashlib
from importlib.resources import files
from pathlib import Path

from gathering_local.home import Home
from gathering_local.layout import SERVICES

DATABASE = "gathering"


def role_addresses(home: Home, address: str) -> dict[str, tuple[str, str]]:
    """Return the addresses of each service's own and system role.

    Args:
        home: where the roles' passwords are.
        address: host and port of the server.

    """
    return {
        service: (_dsn(home, address, service), _dsn(home, address, f"{service}_sys"))
        for service in SERVICES
    }


def _dsn(home: Home, address: str, role: str) -> str:
    return f"postgresql://{role}:{home.secret(role)}@{address}/{DATABASE}"


async def prepare(home: Home, admin_dsn: str, address: str, mark: Path) -> bool:
    """Make roles and schemas and migrate them, unless this was done with the same migrations.

    Args:
        home: where the passwords are.
        admin_dsn: address of the database `gathering` (made if need be) as superuser.
        address: host and port of the server.
        mark: file that says with which migrations this very database was prepared last.

    Returns:
        Whether there was anything to do.

    """
    if _is_marked(mark):
        return False
    for service in SERVICES:
        await _migrate(home, admin_dsn, address, service)
    return True


def _is_marked(mark: Path) -> bool:
    return mark.exists() and mark.read_text() == _fingerprint()


def write_mark(mark: Path) -> None:
    """Note that a database is prepared with the present migrations."""
    mark.write_text(_fingerprint())


async def _migrate(home: Home, admin_dsn: str, address: str, service: str) -> None:
    # Imported here: an `up` with nothing to migrate is to be quick.
    from gathering_mesh import migration

    passwords = {role: home.secret(role) for role in _roles(service)}
    await migration.bootstrap(admin_dsn, service, passwords)
    await migration.migrate(
        _dsn(home, address, f"{service}_mig"), f"gathering_{service}.migrations"
    )


def _roles(service: str) -> tuple[str, str, str]:
    return service, f"{service}_sys", f"{service}_mig"


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for package in ("gathering_mesh", *(f"gathering_{service}" for service in SERVICES)):
        root = Path(str(files(package)))
        for path in sorted(root.glob("**/migration*/**/*.py")) + sorted(root.glob("migration*.py")):
            digest.update(path.relative_to(root).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
