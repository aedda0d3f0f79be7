"""What is condensed of sessions, how much of before a turn is shown, what went into each prompt."""

from alembic import op

from gathering_mesh.migration import tenant_table

revision = "0012"
down_revision = "0011"

_DIGESTS = """
create table agent.digests (
    tenant_id text not null,
    session_id text not null,
    upto bigint not null check (upto >= 0),
    digest jsonb not null,
    create_time timestamptz not null default clock_timestamp(),
    primary key (tenant_id, session_id, upto),
    foreign key (tenant_id, session_id) references agent.sessions (tenant_id, id))
"""
_STATEMENTS = (
    # The newest digest; null where there is none, so that short sessions read no further table.
    """
    alter table agent.sessions
        add column condensed_upto bigint,
        add column resume_strategy text not null default 'auto'
    """,
    "alter table agent.turns add column resume_strategy text not null default 'auto'",
    "alter table agent.messages add column context jsonb",
    # Step 0 is what comes before the steps: condensing.
    """
    alter table agent.model_attempts
        add column purpose text not null default 'answer',
        drop constraint model_attempts_step_check,
        add constraint model_attempts_step_check check (step >= 0)
    """,
    "alter table agent.agents add column context_policy jsonb not null default '{}'",
)


def upgrade() -> None:
    """Add what is new."""
    op.execute(_DIGESTS)
    tenant_table(op, "digests", schema="agent", rights="select, insert, delete")
    for statement in _STATEMENTS:
        op.execute(statement)
