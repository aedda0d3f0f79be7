"""What was found worth remembering of turns, until it is remembered."""

from alembic import op

from gathering_mesh.migration import tenant_table

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Create the table."""
    op.execute(
        """
        create table agent.findings (
            tenant_id text not null,
            turn_id text not null,
            found jsonb not null,
            primary key (tenant_id, turn_id),
            foreign key (tenant_id, turn_id) references agent.turns (tenant_id, id))
        """
    )
    tenant_table(op, "findings", schema="agent")
