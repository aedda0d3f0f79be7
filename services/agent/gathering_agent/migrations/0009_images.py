"""Messages that show images."""

from alembic import op

from gathering_mesh.migration import tenant_table

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add what is new."""
    op.execute("alter table agent.messages add column images jsonb not null default '[]'")
    op.execute(
        """
        create table agent.images (
            tenant_id text not null,
            message_id text not null,
            place int not null check (place >= 0),
            data bytea not null,
            primary key (tenant_id, message_id, place),
            foreign key (tenant_id, message_id) references agent.messages (tenant_id, id)
                on delete cascade)
        """
    )
    op.execute("alter table agent.images alter column data set storage external")
    tenant_table(op, "images", schema="agent")
