"""The API key that stood behind a delegation; what ends that, ends this."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it; of the delegations that there are, it is not known."""
    op.execute("""
        alter table gateway.delegation
        add column api_key_id text,
        add foreign key (tenant_id, api_key_id) references gateway.api_key (tenant_id, id)
    """)
