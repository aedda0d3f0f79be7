"""Users, and what is known over all tenants: a transaction per method, named for its effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from gathering_gateway.errors import EmailTaken
from gathering_gateway.events import LoginRefused, UserCreated
from gathering_gateway.models import Attempts, Owner, Role, User
from gathering_gateway.models_credentials import EMAIL, lookup_key
from gathering_mesh.call import Call
from gathering_mesh.ids import new_id
from gathering_mesh.postgres import Database, Transaction
from gathering_mesh.postgres_errors import unique
from gathering_mesh.statements import Row, Statements

LOOKUP_KEY = "lookup_key"  # the constraint that keeps credentials unique over all tenants
_USER = "select * from member where tenant_id = $1 and id = $2"
_OWNER = "select tenant_id, id from lookup where key = $1"
# A window begins with its first attempt and is not lengthened by later ones.
_ATTEMPT = """
insert into login_attempt as a (key, count, since) values ($1, 1, now())
on conflict (key) do update set
    count = case when a.since < now() - $2::interval then 1 else a.count + 1 end,
    since = case when a.since < now() - $2::interval then now() else a.since end
returning count, extract(epoch from since + $2::interval - now())::float8 as seconds_left
"""
_SWEEP = """
delete from login_attempt where key in (
    select key from login_attempt where since < now() - $1::interval
    order by since limit 20 for update skip locked)
"""


async def add_lookup(tx: Transaction, key: bytes, id: str) -> None:
    """Make a credential findable over all tenants."""
    await tx.run("insert into lookup (tenant_id, key, id) values ($1, $2, $3)", tx.tenant, key, id)


async def add_member(tx: Transaction, email: str, name: str, role: Role, password: str) -> User:
    """Insert a user whose e-mail address is in normal form. Raises EmailTaken."""
    user_id = new_id("usr")
    with unique(LOOKUP_KEY, EmailTaken):
        await add_lookup(tx, lookup_key(EMAIL, email), user_id)
    row = await tx.fetch_one(
        "insert into member (tenant_id, id, email, display_name, role, password_hash)"
        " values ($1, $2, $3, $4, $5, $6) returning *",
        tx.tenant, user_id, email, name, role.value, password,
    )  # fmt: skip
    assert row is not None  # noqa: S101 (an insert returns its row)
    tx.emit(user_id, UserCreated(user_id=user_id, role=role.value), [user_id])
    return to_user(row)


async def get_member(tx: Statements, tenant: str, user: str) -> User | None:
    """Return a user."""
    row = await tx.fetch_one(_USER, tenant, user)
    return to_user(row) if row else None


def to_user(row: Row) -> User:
    """Return the user of a row."""
    return User(
        tenant_id=row["tenant_id"],
        user_id=row["id"],
        email=row["email"],
        display_name=row["display_name"],
        role=Role(row["role"]),
        create_time=row["created_at"],
        disable_time=row["disabled_at"],
    )


@dataclass(frozen=True, slots=True)
class DirectoryStore:
    """What the system role reads and counts over all tenants."""

    db: Database

    async def owner(self, key: bytes) -> Owner | None:
        """Return whose credential has this look-up key."""
        async with self.db.system() as tx:
            row = await tx.fetch_one(_OWNER, key)
        return Owner(row["tenant_id"], row["id"]) if row else None

    async def attempt(self, key: bytes, window: timedelta) -> Attempts:
        """Count an attempt, and drop some that are over."""
        async with self.db.system() as tx:
            row = await tx.fetch_one(_ATTEMPT, key, window)
            await tx.run(_SWEEP, window)
        assert row is not None  # noqa: S101 (an insert returns its row)
        return Attempts(row["count"], row["seconds_left"])

    async def forget(self, key: bytes) -> None:
        """Count the attempts of this key anew."""
        async with self.db.system() as tx:
            await tx.run("delete from login_attempt where key = $1", key)


@dataclass(frozen=True, slots=True)
class UserStore:
    """The users of a tenant."""

    db: Database

    async def create(self, call: Call, email: str, name: str, role: Role, password: str) -> User:
        """Store a user, once per request id."""
        async with self.db.mutation(call) as tx:
            if tx.replay:
                first = await get_member(tx, tx.tenant, tx.replay)
                assert first is not None  # noqa: S101 (users are not deleted)
                return first
            user = await add_member(tx, email, name, role, password)
            tx.result = user.user_id
        return user

    async def created(self, call: Call) -> User | None:
        """Return the user that a call with this request id has created already."""
        made = await self.db.earlier(call)
        return await self.get(call.tenant, made) if made else None

    async def get(self, tenant: str, user: str) -> User | None:
        """Return a user."""
        async with self.db.transaction(tenant) as tx:
            return await get_member(tx, tenant, user)

    async def password_hash(self, tenant: str, user: str) -> tuple[User, str] | None:
        """Return a user with the hash of the password."""
        async with self.db.transaction(tenant) as tx:
            row = await tx.fetch_one(_USER, tenant, user)
        return (to_user(row), row["password_hash"]) if row else None

    async def page(self, tenant: str, after: str, limit: int) -> Sequence[User]:
        """Return users by e-mail, those after one."""
        async with self.db.transaction(tenant) as tx:
            rows = await tx.fetch(
                "select * from member where tenant_id = $1 and email > $2 order by email limit $3",
                tenant, after, limit,
            )  # fmt: skip
        return [to_user(row) for row in rows]

    async def refused(self, known: Call, reason: str) -> None:
        """Tell the feed that a login of this user was refused."""
        async with self.db.transaction(known) as tx:
            told = LoginRefused(user_id=known.user, reason=reason, address=known.address)
            tx.emit(known.user, told, [known.user])


@dataclass(frozen=True, slots=True)
class TenantStore:
    """Tenants, for operators."""

    db: Database

    async def create(self, name: str, email: str, password: str) -> User:
        """Store a tenant with its first administrator. Raises EmailTaken."""
        async with self.db.transaction(new_id("ten")) as tx:
            await tx.run("insert into tenant (tenant_id, name) values ($1, $2)", tx.tenant, name)
            return await add_member(tx, email, name, Role.ADMIN, password)
