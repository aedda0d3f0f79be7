"""Sessions that are named anew, forked, imported, deleted."""

from alembic import op

revision = "0005"
down_revision = "0004"

_STATEMENTS = (
    """
    alter table agent.sessions
        add column version bigint not null default 1,
        add column parent_session_id text not null default '',
        add column parent_message_id text not null default '',
        add column imported boolean not null default false,
        add column delete_time timestamptz
    """,
    # Of a deleted session its row and those of its turns stay, without text: they say what was
    # used. Its messages go.
    "alter table agent.turns add column deleted boolean not null default false",
    # Messages that were forked or imported are of no turn.
    "alter table agent.messages alter column turn_id drop not null",
)


def upgrade() -> None:
    """Add what is new."""
    for statement in _STATEMENTS:
        op.execute(statement)
