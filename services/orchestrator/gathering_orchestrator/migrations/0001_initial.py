"""Circles, members, tasks, offers, reviews, artifacts, turns."""

from alembic import op

from gathering_mesh.migration import mesh_tables, tenant_table

revision = "0001"
down_revision = None

_TASK_STATES = (
    "'PENDING', 'OFFERED', 'ACCEPTED', 'RUNNING', 'IN_REVIEW',"
    " 'COMPLETED', 'FAILED', 'CANCELLED', 'ESCALATED'"
)
_TABLES = {
    "circles": """
        tenant_id text not null,
        id text not null,
        name text not null,
        purpose text not null,
        workspace_id text not null,
        requires_review boolean not null,
        max_rounds int not null check (max_rounds > 0),
        offer_timeout interval not null check (offer_timeout > interval '0'),
        owner_user_id text not null,
        delegation_id text not null,
        version bigint not null,
        members_version bigint not null,
        pushed_version bigint not null check (pushed_version <= members_version),
        create_time timestamptz not null,
        primary key (tenant_id, id)""",
    "agents": """
        tenant_id text not null,
        id text not null,
        name text not null,
        competences jsonb not null,
        archived boolean not null,
        max_concurrent_tasks int not null check (max_concurrent_tasks > 0),
        update_time timestamptz not null,
        primary key (tenant_id, id)""",
    "members": """
        tenant_id text not null,
        circle_id text not null,
        agent_id text not null,
        mode text not null check (mode in ('MANAGED', 'EXTERNAL')),
        can_review boolean not null,
        completed int not null default 0 check (completed >= 0),
        failed int not null default 0 check (failed >= 0),
        reviews int not null default 0 check (reviews >= 0),
        approved int not null default 0 check (approved between 0 and reviews),
        score_sum double precision not null default 0,
        join_time timestamptz not null default now(),
        primary key (tenant_id, circle_id, agent_id),
        foreign key (tenant_id, circle_id) references orchestrator.circles (tenant_id, id),
        foreign key (tenant_id, agent_id) references orchestrator.agents (tenant_id, id)""",
    "tasks": f"""
        tenant_id text not null,
        id text not null,
        circle_id text not null,
        title text not null,
        description text not null,
        acceptance_criteria text[] not null,
        required_competences text[] not null,
        priority int not null check (priority between 1 and 10),
        workspace_id text not null,
        requires_review boolean not null,
        max_tool_calls int not null,
        max_rounds int not null check (max_rounds > 0),
        offer_timeout interval not null,
        state text not null check (state in ({_TASK_STATES})),
        state_message text not null,
        assigned_agent_id text not null,
        assigned_mode text check (assigned_mode in ('MANAGED', 'EXTERNAL')),
        round int not null check (round >= 0),
        summary text not null,
        submitted_round int not null check (submitted_round <= round),
        session_id text not null,
        search int not null,
        search_time timestamptz not null,
        version bigint not null,
        owner_user_id text not null,
        delegation_id text not null,
        trace text not null,
        create_time timestamptz not null,
        update_time timestamptz not null,
        end_time timestamptz,
        primary key (tenant_id, id),
        foreign key (tenant_id, circle_id) references orchestrator.circles (tenant_id, id),
        check ((assigned_agent_id = '') = (assigned_mode is null)),
        check (state not in ('ACCEPTED', 'RUNNING', 'IN_REVIEW') or assigned_agent_id <> ''),
        check ((end_time is not null) = (state in ('COMPLETED', 'FAILED', 'CANCELLED')))""",
    "offers": """
        tenant_id text not null,
        id text not null,
        task_id text not null,
        circle_id text not null,
        agent_id text not null,
        agent_name text not null,
        mode text not null check (mode in ('MANAGED', 'EXTERNAL')),
        state text not null
            check (state in ('OPEN', 'ACCEPTED', 'DECLINED', 'EXPIRED', 'WITHDRAWN')),
        score double precision not null check (score between 0 and 1),
        score_parts jsonb not null,
        reason text not null,
        message text not null,
        search int not null,
        open_tasks int not null,
        create_time timestamptz not null,
        expire_time timestamptz not null,
        answer_time timestamptz,
        primary key (tenant_id, id),
        foreign key (tenant_id, task_id) references orchestrator.tasks (tenant_id, id),
        check ((answer_time is null) = (state = 'OPEN'))""",
    "reviews": """
        tenant_id text not null,
        id text not null,
        task_id text not null,
        circle_id text not null,
        author_agent_id text not null,
        reviewer_agent_id text not null,
        reviewer_name text not null,
        reviewer_user_id text not null,
        mode text check (mode in ('MANAGED', 'EXTERNAL')),
        round int not null,
        verdict text check (verdict in ('APPROVED', 'CHANGES_REQUESTED', 'REJECTED')),
        score double precision check (score between 0 and 1),
        comment text not null,
        criteria jsonb not null,
        create_time timestamptz not null,
        end_time timestamptz,
        primary key (tenant_id, id),
        foreign key (tenant_id, task_id) references orchestrator.tasks (tenant_id, id),
        check ((reviewer_agent_id = '') <> (reviewer_user_id = '')),
        check ((reviewer_agent_id = '') = (mode is null)),
        check (reviewer_agent_id = '' or reviewer_agent_id <> author_agent_id),
        check ((verdict is null) = (score is null)),
        check (verdict is null or end_time is not null)""",
    "artifacts": """
        tenant_id text not null,
        task_id text not null,
        round int not null,
        path text not null,
        sha256 text not null check (sha256 ~ '^[0-9a-f]{64}$'),
        size_bytes bigint not null check (size_bytes >= 0),
        primary key (tenant_id, task_id, round, path),
        foreign key (tenant_id, task_id) references orchestrator.tasks (tenant_id, id)""",
    "turns": """
        tenant_id text not null,
        id text not null,
        task_id text not null,
        review_id text not null,
        agent_id text not null,
        session_id text not null,
        prompt text not null,
        turn_id text not null,
        acknowledged boolean not null,
        outcome text check (outcome in ('COMPLETED', 'FAILED', 'CANCELLED')),
        reason text not null,
        create_time timestamptz not null default now(),
        primary key (tenant_id, id),
        foreign key (tenant_id, task_id) references orchestrator.tasks (tenant_id, id)""",
}
_INDEXES = (
    # An agent has a task or it has not; the task has one agent.
    "create unique index offers_one_accepted on orchestrator.offers (tenant_id, task_id)"
    " where state = 'ACCEPTED'",
    "create unique index offers_one_open on orchestrator.offers (tenant_id, task_id)"
    " where state = 'OPEN'",
    "create unique index reviews_one_open on orchestrator.reviews (tenant_id, task_id)"
    " where end_time is null",
    # One question at a time in a session, so that the end of a turn whose id was not heard yet is
    # the end of that one.
    "create unique index turns_one_going_on on orchestrator.turns (tenant_id, session_id)"
    " where outcome is null",
    "create unique index turns_by_turn on orchestrator.turns (tenant_id, turn_id)"
    " where turn_id <> ''",
    "create index members_by_agent on orchestrator.members (tenant_id, agent_id)",
    "create index tasks_by_circle on orchestrator.tasks (tenant_id, circle_id, id)",
    "create index tasks_at_work on orchestrator.tasks (tenant_id, assigned_agent_id)"
    " where state in ('ACCEPTED', 'RUNNING', 'IN_REVIEW')",
    "create index tasks_ended on orchestrator.tasks (tenant_id, circle_id, assigned_agent_id)"
    " where state in ('COMPLETED', 'FAILED')",
    "create index tasks_waiting on orchestrator.tasks (tenant_id, circle_id, priority, id)"
    " where state = 'PENDING'",
    "create index offers_by_task on orchestrator.offers (tenant_id, task_id, id)",
    "create index offers_open_to on orchestrator.offers (tenant_id, agent_id, id)"
    " where state = 'OPEN'",
    "create index reviews_by_task on orchestrator.reviews (tenant_id, task_id, id)",
    "create index reviews_of_author on orchestrator.reviews"
    " (tenant_id, circle_id, author_agent_id) where verdict is not null",
    "create index turns_by_task on orchestrator.turns (tenant_id, task_id)",
)


def upgrade() -> None:
    """Create the mesh's tables and this service's."""
    mesh_tables(op, "orchestrator")
    for name, columns in _TABLES.items():
        op.execute(f"create table orchestrator.{name} ({columns})")
        tenant_table(op, name, schema="orchestrator")
    for statement in _INDEXES:
        op.execute(statement)
