"""`python -m gathering_gateway.admin create-tenant|rotate-keys`; prints one JSON object.

Settings as for the service; `create-tenant` needs the database only, `rotate-keys` the keys only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import sys
from pathlib import Path

from gathering_gateway.admin.app import AdminError, create_tenant, rotate_keys
from gathering_gateway.settings import GatewaySettings
from gathering_mesh.errors import DomainError


def main(arguments: list[str] | None = None) -> None:
    """Run a command; exit 1 with a line on stderr where it cannot be done."""
    options = _parser().parse_args(arguments)
    try:
        answer = asyncio.run(_answer(options, GatewaySettings()))
    except (AdminError, DomainError, OSError) as error:
        sys.exit(f"{options.command}: {error}")
    sys.stdout.write(json.dumps(answer) + "\n")


async def _answer(options: argparse.Namespace, settings: GatewaySettings) -> dict[str, object]:
    if options.command == "rotate-keys":
        delay = 0.0 if options.drop_others else options.delay
        key_id, moment = await rotate_keys(settings, delay, drop_others=options.drop_others)
        return {"key_id": key_id, "signs_from": moment.isoformat()}
    given = _password(options.password_file)
    password = given or secrets.token_urlsafe(18)
    made = await create_tenant(settings, options.name, options.email, password)
    answer: dict[str, object] = {
        "tenant_id": made.user.tenant_id,
        "user_id": made.user.user_id,
        "email": made.user.email,
        "created": made.created,
    }
    return {**answer, "password": password} if made.created and not given else answer


def _password(file: Path | None) -> str:
    return file.read_text().rstrip("\r\n") if file else os.environ.get("GATHERING_PASSWORD", "")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gathering_gateway.admin")
    commands = parser.add_subparsers(dest="command", required=True)
    tenant = commands.add_parser(
        "create-tenant", help="make a tenant with an administrator; repeatable by its e-mail"
    )
    tenant.add_argument("--name", required=True, help="name of the tenant and of the user")
    tenant.add_argument("--email", required=True, help="of the administrator, unique over all")
    tenant.add_argument(
        "--password-file", type=Path,
        help="file with the password; else GATHERING_PASSWORD, else one is made and printed",
    )  # fmt: skip
    keys = commands.add_parser("rotate-keys", help="make a new signing key, remove useless ones")
    keys.add_argument(
        "--delay", type=float,
        help="seconds until it signs; default GATHERING_KEY_DELAY_SECONDS",
    )  # fmt: skip
    keys.add_argument(
        "--drop-others", action="store_true",
        help="after a leak: the new key signs at once, tokens of all others are refused",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    main()
