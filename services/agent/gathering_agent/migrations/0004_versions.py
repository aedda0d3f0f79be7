"""Versions of agents' definitions, their memory policy and template; turns name their version."""

from alembic import op

from gathering_mesh.migration import tenant_table

revision = "0004"
down_revision = "0003"

_VERSIONS = """
create table agent.agent_versions (
    tenant_id text not null,
    agent_id text not null,
    version bigint not null check (version > 0),
    user_id text not null,
    create_time timestamptz not null,
    changed_fields text[] not null,
    definition jsonb not null,
    primary key (tenant_id, agent_id, version),
    foreign key (tenant_id, agent_id) references agent.agents (tenant_id, id))
"""
_AGENTS = """
alter table agent.agents
    add column max_turn_tool_calls int not null default 0,
    add column memory_policy jsonb not null default '{}',
    add column template text not null default '',
    add column definition bigint not null default 1 check (definition > 0)
"""
# What agents are now is their first version that is known.
_FIRST_VERSIONS = """
insert into agent.agent_versions
select tenant_id, id, 1, owner_user_id, update_time, '{}', jsonb_build_object(
    'name', name, 'persona', persona, 'competences', competences, 'model', model,
    'max_concurrent_tasks', max_concurrent_tasks, 'max_turn_steps', max_turn_steps)
from agent.agents
"""
# Of turns from before nobody knows the version.
_TURNS = """
alter table agent.turns
    add column agent_version bigint,
    add foreign key (tenant_id, agent_id, agent_version)
        references agent.agent_versions (tenant_id, agent_id, version)
"""


def upgrade() -> None:
    """Add what is new, and the first version of each agent."""
    op.execute(_VERSIONS)
    tenant_table(op, "agent_versions", schema="agent", rights="select, insert")
    for statement in (_AGENTS, _FIRST_VERSIONS, _TURNS):
        op.execute(statement)
