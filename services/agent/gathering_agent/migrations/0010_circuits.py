"""Circuits of models that keep failing, and places at providers that have a limit.

They are of no tenant and have no content: the machinery of all replicas sees them.
"""

from alembic import op

revision = "0010"
down_revision = "0009"

_STATEMENTS = (
    """
    create table agent.circuits (
        name text primary key,
        failures int not null check (failures >= 0),
        reason text not null,
        failure_time timestamptz not null,
        open_until timestamptz,
        probe_until timestamptz,
        check (probe_until is null or open_until is not null))
    """,
    """
    create table agent.places (
        id bigint generated always as identity primary key,
        provider text not null,
        owner text not null,
        lease_until timestamptz not null)
    """,
    "create index on agent.places (provider, id)",
    "grant select, insert, update, delete on agent.circuits, agent.places to agent_sys",
)


def upgrade() -> None:
    """Add what is new."""
    for statement in _STATEMENTS:
        op.execute(statement)
