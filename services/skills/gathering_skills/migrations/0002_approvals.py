"""Executions that a person has to approve."""

from alembic import op

revision = "0002"
down_revision = "0001"

# The checks without a name of the first migration, by the names that PostgreSQL gave them.
_CHECKS = {
    "executions_state_check": """
        state in ('awaiting_approval', 'requested', 'running', 'done', 'failed', 'cancelled',
            'unknown_outcome', 'denied', 'expired')""",
    "executions_check": """
        (end_time is null) = (state in ('awaiting_approval', 'requested', 'running'))""",
    "executions_check3": """
        (error_reason <> '')
            = (state in ('failed', 'cancelled', 'unknown_outcome', 'denied', 'expired'))""",
}
_COLUMNS = """
    alter table skills.executions
        add column approval_digest text not null default '',
        add column approval_expire_time timestamptz,
        add column approval_user_id text not null default '',
        add column approval_time timestamptz,
        add column approval_comment text not null default '',
        add constraint execution_approval check (
            (approval_digest = '') = (approval_expire_time is null)
            and (approval_user_id = '') = (approval_time is null)
            and (state <> 'awaiting_approval' or (approval_digest <> '' and approval_time is null))
            and (state <> 'denied' or approval_time is not null)
            and (attempt_count = 0 or approval_digest = '' or approval_time is not null))
"""
_GRANTS = """
    alter table skills.grants
        add column ask_permissions text[] not null default '{}',
        add column approval_timeout interval not null default '1 hour',
        add constraint grant_asks check (ask_permissions <@ permissions)
"""
_INDEXES = (
    "drop index skills.execution_live",
    "create index execution_live on skills.executions (tenant_id) where end_time is null",
    "create index execution_awaiting on skills.executions (tenant_id, id)"
    " where state = 'awaiting_approval'",
)


def upgrade() -> None:
    """Add the states and what is asked and answered."""
    for name, check in _CHECKS.items():
        op.execute(f"alter table skills.executions drop constraint {name}")
        op.execute(f"alter table skills.executions add constraint {name} check ({check})")
    for statement in (_COLUMNS, _GRANTS, *_INDEXES):
        op.execute(statement)
