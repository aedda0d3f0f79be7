"""Memories of an agent for one user alone."""

from alembic import op

revision = "0002"
down_revision = "0001"

_KINDS = "('private', 'personal', 'circle', 'project', 'tenant')"


def upgrade() -> None:
    """Take the new kind of scope; what is stored fits already."""
    op.execute("alter table memory.memory drop constraint memory_scope_kind_check")
    op.execute(
        "alter table memory.memory add constraint memory_scope_kind_check "
        f"check (scope_kind in {_KINDS})"
    )
