"""Tasks that are a part of others."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add what is new."""
    op.execute("alter table orchestrator.tasks add column parent_task_id text not null default ''")
