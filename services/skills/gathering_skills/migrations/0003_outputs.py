"""What tools tell as they run."""

from alembic import op

from gathering_mesh.migration import tenant_table

revision = "0003"
down_revision = "0002"

# Bytes, not text: texts of PostgreSQL hold no NUL, and offsets are in bytes. A piece is small, so
# that any place is found by its key. `cut`: the last piece, and the tool told more.
_TABLE = """
    create table skills.outputs (
        tenant_id text not null,
        execution_id text not null,
        attempt int not null check (attempt > 0),
        offset_bytes bigint not null check (offset_bytes >= 0),
        content bytea not null check (octet_length(content) between 1 and 32768),
        cut boolean not null default false,
        primary key (tenant_id, execution_id, attempt, offset_bytes),
        foreign key (tenant_id, execution_id)
            references skills.executions (tenant_id, id) on delete cascade)
"""


def upgrade() -> None:
    """Add the table."""
    op.execute(_TABLE)
    tenant_table(op, "outputs", schema="skills", rights="select, insert, delete")
