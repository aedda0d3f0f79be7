"""Grants: who may use what of a skill."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from gathering_mesh.call import Call
from gathering_mesh.ids import new_id
from gathering_mesh.paging import decode_token, encode_token, page_size, query_fingerprint
from gathering_mesh.postgres import Database, Transaction
from gathering_skills.boundary import Boundary
from gathering_skills.catalogue import Catalogue
from gathering_skills.errors import FieldInvalid
from gathering_skills.events import GrantChanged
from gathering_skills.models import Grant, GrantWish
from gathering_skills.models_tools import Permission, SkillSpec, ToolSpec
from gathering_skills.ports import GrantRows

_READ_ONLY = frozenset({Permission.READ})


@dataclass(frozen=True, slots=True)
class GrantPage:
    """A page of grants; an empty token on the last."""

    grants: list[Grant]
    next_page_token: str


class Grants:
    """The verbs on grants, and the catalogue."""

    def __init__(
        self, db: Database, rows: GrantRows, catalogue: Catalogue, boundary: Boundary
    ) -> None:
        self._db = db
        self._rows = rows
        self._catalogue = catalogue
        self._boundary = boundary

    def skills(self) -> list[SkillSpec]:
        """Return all skills with their tools, by name."""
        return list(self._catalogue.skills())

    async def granted_tools(self, call: Call, agent_id: str) -> list[tuple[str, ToolSpec]]:
        """Return the tools that an agent may use with their skills, by name."""
        async with self._db.transaction(call) as tx:
            return await self._boundary.granted(tx, agent_id)

    async def create(self, call: Call, wish: GrantWish) -> Grant:
        """Grant a skill, in place of what is granted of it; FieldInvalid."""
        if not self._catalogue.has_skill(wish.skill):
            raise FieldInvalid("skill", f"there is no skill {wish.skill!r}")
        if not wish.ask_permissions <= (wish.permissions or _READ_ONLY):
            raise FieldInvalid("ask_permissions", "holds what `permissions` does not grant")
        grant = Grant(
            id=new_id("grt"),
            agent_id=wish.agent_id,
            skill=wish.skill,
            permissions=wish.permissions or _READ_ONLY,
            write_paths=wish.write_paths,
            ask_permissions=wish.ask_permissions,
            approval_timeout=wish.approval_timeout,
            created_at=datetime.now(UTC),
        )
        async with self._db.mutation(call) as tx:
            if tx.replay:
                return await self._rows.get(tx, tx.replay)
            if replaced := await self._rows.revoke(tx, grant.agent_id, grant.skill):
                _tell(tx, replaced, revoked=True)
            await self._rows.insert(tx, grant)
            _tell(tx, grant, revoked=False)
            tx.result = grant.id
        return grant

    async def page(self, call: Call, agent_id: str, size: int, token: str) -> GrantPage:
        """Return a page of grants in force, by agent and skill."""
        count = page_size(size)
        query = query_fingerprint(call.method, call.tenant, agent_id)
        agent, skill = decode_token(query, token, (str, str)) or ("", "")
        async with self._db.transaction(call) as tx:
            found = await self._rows.page(tx, agent_id, after=(agent, skill), limit=count + 1)
        page = found[:count]
        if len(found) <= count:
            return GrantPage(page, "")
        return GrantPage(page, encode_token(query, [page[-1].agent_id, page[-1].skill]))

    async def revoke(self, call: Call, grant_id: str) -> Grant:
        """Take a grant away; one that is gone already is returned as it is. NotFound."""
        async with self._db.mutation(call) as tx:
            grant = await self._rows.get(tx, grant_id)
            tx.result = grant_id
            revoked = await self._rows.revoke(tx, grant.agent_id, grant.skill, only=grant_id)
            if revoked is None:
                return await self._rows.get(tx, grant_id)
            _tell(tx, revoked, revoked=True)
            return revoked


def _tell(tx: Transaction, grant: Grant, *, revoked: bool) -> None:
    tx.emit(grant.id, GrantChanged(grant.id, grant.agent_id, grant.skill, revoked))
