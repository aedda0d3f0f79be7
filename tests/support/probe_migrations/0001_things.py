"""A table with tenants, beside the mesh's own."""

from alembic import op

from gathering_mesh.migration import mesh_tables, tenant_table

revision = "0001"
down_revision = None


def upgrade() -> None:
    mesh_tables(op, "probe")
    op.execute(
        """
        create table probe.thing (
            tenant_id text not null,
            id text not null,
            name text not null,
            n bigint not null default 0,
            primary key (tenant_id, id),
            constraint thing_name unique (tenant_id, name))
        """
    )
    tenant_table(op, "thing", schema="probe")
