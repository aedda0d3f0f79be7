"""Turns that wait for those before them in their session, and turns with a deadline."""

from alembic import op

revision = "0007"
down_revision = "0006"

_STATEMENTS = (
    """
    alter table agent.turns
        drop constraint turns_state_check,
        drop constraint turns_check,
        add column place int not null default 0,
        add column start_time timestamptz,
        add column deadline timestamptz,
        add constraint turns_state_check check (
            state in ('waiting', 'queued', 'running', 'completed', 'failed', 'cancelled')),
        add constraint turns_check check (
            (end_time is null) = (state in ('waiting', 'queued', 'running')))
    """,
    # Whom the live turn of a session lets begin when it ends.
    "create unique index turns_waiting on agent.turns (tenant_id, session_id, place) "
    "where state = 'waiting'",
    # What was said with a turn that waits is no part of the conversation yet.
    "alter table agent.messages alter column sequence drop not null",
)


def upgrade() -> None:
    """Add what is new."""
    for statement in _STATEMENTS:
        op.execute(statement)
