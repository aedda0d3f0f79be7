"""Finds what was told to one tenant and belongs to another."""

from __future__ import annotations

import re
from base64 import b64decode
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import asyncpg
from google.protobuf.message import Message

from gathering.events.v1.event_pb2 import Event
from tests.e2e.doors import Heard

MARK = re.compile(r"canary[0-9a-f]{32}|\b(?!req_|rep_)[a-z]{3}_[0-9a-f]{32}")
_PACKED = re.compile(r"[A-Za-z0-9+/_-]{24,}")
_TABLES = """
select c.table_schema, c.table_name,
       bool_or(c.column_name = 'id') as named, bool_or(c.column_name = 'event') as log
from information_schema.columns c join information_schema.tables t using (table_schema, table_name)
where t.table_type = 'BASE TABLE' group by 1, 2
having bool_or(c.column_name = 'tenant_id') order by 1, 2
"""


def marks(texts: Iterable[str]) -> set[str]:
    """Return the ids and canaries in texts, also in what is packed in base64."""
    found: set[str] = set()
    for text in texts:
        found.update(MARK.findall(text))
        for packed in _PACKED.findall(text):
            found.update(MARK.findall(_unpacked(packed)))
    return found


def _unpacked(text: str) -> str:
    body = text.translate(str.maketrans("-_", "+/"))
    try:
        return b64decode(body + "=" * (-len(body) % 4)).decode("latin-1")
    except ValueError:
        return ""


def marks_of(message: Message) -> set[str]:
    """Return the ids and canaries that a request holds."""
    heard = Heard()
    heard.message(message)
    return marks(heard.texts)


@dataclass
class Ledger:
    """What each tenant was told that it had not said itself in the same call."""

    told: list[tuple[str, str, set[str]]] = field(default_factory=list)

    def note(self, tenant_id: str, what: str, sent: Message, heard: Heard) -> None:
        """Keep what an answer holds."""
        found = marks(heard.texts) - marks_of(sent)
        if found:
            self.told.append((tenant_id, what, found))

    def leaks(self, owners: Owners) -> Iterator[str]:
        """Yield, in words, whatever is not the tenant's to know."""
        for tenant_id, what, found in self.told:
            for mark in sorted(found):
                if tenant_id not in owners.of(mark):
                    yield f"{what} told {tenant_id} of {mark}, which is {owners.of(mark)}'s"


@dataclass(frozen=True)
class Owners:
    """Whose ids and canaries are: by the row that they name, else by all rows that mention them."""

    named: dict[str, str]
    mentioned: dict[str, set[str]]

    def of(self, mark: str) -> set[str]:
        """Return the tenants that may know of it."""
        owner = self.named.get(mark)
        return {owner} if owner else self.mentioned.get(mark, set())


async def owners(dsn: str, tenants: set[str]) -> Owners:
    """Read whose everything is, as superuser, from all tables of all schemas."""
    connection = await asyncpg.connect(dsn)
    named = {each: each for each in tenants}
    mentioned: defaultdict[str, set[str]] = defaultdict(set)
    try:
        for schema, table, has_id, log in await connection.fetch(_TABLES):
            where = f"from {schema}.{table} t where tenant_id = any($1)"
            what = "id" if has_id else "''"
            content = "event" if log else "null::bytea"
            rows = await connection.fetch(
                f"select tenant_id, {what}::text, to_jsonb(t)::text, {content} {where}",
                list(tenants),
            )
            for tenant, id, text, event in rows:
                if MARK.fullmatch(id):
                    named[id] = tenant
                told = str(Event.FromString(event)) if event else ""
                for mark in marks([text, told]):
                    mentioned[mark].add(tenant)
    finally:
        await connection.close()
    return Owners(named, mentioned)
