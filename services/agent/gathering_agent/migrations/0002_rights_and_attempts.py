"""Delegations by what they were given under, attempts at model calls, turns held from the start."""

from alembic import op

from gathering_mesh.migration import tenant_table

revision = "0002"
down_revision = "0001"

_TABLES = {
    # `root`: the delegation or API key with whose token it was made, empty for the user's own.
    # `sessions.delegation_id` is what turns from before worked on; it is not written any more.
    "delegations": """
        tenant_id text not null,
        session_id text not null,
        root text not null,
        delegation_id text not null,
        replaced int not null check (replaced >= 0),
        primary key (tenant_id, session_id, root),
        foreign key (tenant_id, session_id) references agent.sessions (tenant_id, id)""",
    "model_attempts": """
        tenant_id text not null,
        turn_id text not null,
        step int not null check (step > 0),
        generation text not null,
        model text not null,
        error_reason text not null,
        input_tokens bigint not null check (input_tokens >= 0),
        output_tokens bigint not null check (output_tokens >= 0),
        estimated boolean not null,
        end_time timestamptz not null,
        primary key (tenant_id, turn_id, step, generation),
        foreign key (tenant_id, turn_id) references agent.turns (tenant_id, id)""",
}
_COLUMNS = (
    "alter table agent.turns add column delegation_id text not null default ''",
    "alter table agent.turns add column failed_calls int not null default 0",
    "alter table agent.turns add column failed_tokens bigint not null default 0",
)
# Whoever stores a turn may hold its work at once; fences come from the one sequence of all claims.
_FENCES = "grant usage on sequence agent.work_fence to agent"


def upgrade() -> None:
    """Add what is new."""
    for table, columns in _TABLES.items():
        op.execute(f"create table agent.{table} ({columns})")
        tenant_table(op, table, schema="agent")
    for statement in (*_COLUMNS, _FENCES):
        op.execute(statement)
