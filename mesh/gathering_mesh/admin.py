"""`python -m gathering_mesh.admin new-history`: after a snapshot of the disk was put back.

Nothing in such a database shows that it went back, so its event logs would give positions a second
time that readers have passed. Each log that the role may write gets a new history: with the role
`<svc>_sys` that of one service, with the database's administrator all. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys

import asyncpg

from gathering_mesh import log_rows

_VARIABLE = "GATHERING_SYSTEM_DATABASE_URL"
_SCHEMAS = """
select n.nspname from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relname = 'log_head' and c.relkind = 'r'
    and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'update')
order by 1
"""


def main(arguments: list[str] | None = None) -> None:
    """Run a command; exit 1 with a line on stderr where it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m gathering_mesh.admin")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "new-history",
        help="begin a new history of the event logs, after a disk's snapshot was put back and"
        f" before services start; {_VARIABLE} says where",
    )
    options = parser.parse_args(arguments)
    try:
        begun = asyncio.run(new_history(os.environ.get(_VARIABLE, "")))
    except (asyncpg.PostgresError, OSError, ValueError) as error:
        sys.exit(f"{options.command}: {error}")
    sys.stdout.write(json.dumps(begun) + "\n")


async def new_history(dsn: str) -> dict[str, str]:
    """Give every log that may be written a new history, all or none; return these by schema.

    Raises ValueError where there is no address or no log.
    """
    if not dsn:
        raise ValueError(f"{_VARIABLE} is not set")
    connection = await asyncpg.connect(dsn.replace("+asyncpg", "", 1))
    try:
        async with connection.transaction():
            found = [row["nspname"] for row in await connection.fetch(_SCHEMAS)]
            if not found:
                raise ValueError("this role may write no event log in this database")
            return {schema: await _begin(connection, schema) for schema in found}
    finally:
        await connection.close()


async def _begin(connection: asyncpg.Connection, schema: str) -> str:
    await connection.execute("select set_config('search_path', quote_ident($1), true)", schema)
    return str(await connection.fetchval(log_rows.BEGIN_EPOCH))


if __name__ == "__main__":
    main()
