"""Agents name models to fall back on."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add what is new."""
    op.execute("alter table agent.agents add column fallback_models text[] not null default '{}'")
