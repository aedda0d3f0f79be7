"""Memories, their postings and embeddings, what scopes hold and who belongs to them."""

from __future__ import annotations

from alembic import op

from gathering_mesh.migration import mesh_tables, tenant_table

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = "memory"

TABLES = {
    # Rows stay for ever, so that a forgotten id is known; what was forgotten has no content left.
    "memory": """
        tenant_id text not null,
        id text not null,
        text text not null,
        content_hash text,
        scope_kind text not null check (scope_kind in ('private', 'circle', 'project', 'tenant')),
        scope_id text not null,
        scope_key text not null,
        type text not null,
        importance float8 not null check (importance between 0 and 1),
        agent_id text not null,
        owner_user_id text not null,
        session_id text not null,
        turn_id text not null,
        task_id text not null,
        source_memory_id text not null,
        source text not null,
        tags text[] not null,
        state text not null default 'active'
            check (state in ('active', 'superseded', 'forgotten')),
        superseded_by text,
        remembered_count bigint not null default 1,
        length int not null,
        embedded boolean not null default false,
        created_at timestamptz not null default now(),
        primary key (tenant_id, id),
        foreign key (tenant_id, superseded_by) references memory.memory (tenant_id, id),
        check (state <> 'forgotten' or (text = '' and content_hash is null)),
        check (state = 'forgotten' or content_hash is not null),
        check ((state = 'superseded') <= (superseded_by is not null))
    """,
    # Which copy of a memory stands in which scope.
    "share": """
        tenant_id text not null,
        source_memory_id text not null,
        scope_key text not null,
        memory_id text not null,
        primary key (tenant_id, source_memory_id, scope_key),
        foreign key (tenant_id, source_memory_id) references memory.memory (tenant_id, id),
        foreign key (tenant_id, memory_id) references memory.memory (tenant_id, id)
    """,
    # Read by btree equality, which row-level security does not forbid. `length` is that of the
    # memory: BM25 needs it for each row, and a join for it would cost more than the rest.
    "posting": """
        tenant_id text not null,
        scope_key text not null,
        term text not null,
        memory_id text not null,
        tf int not null,
        length int not null,
        primary key (tenant_id, scope_key, term, memory_id) include (tf, length),
        foreign key (tenant_id, memory_id) references memory.memory (tenant_id, id)
    """,
    "embedding": """
        tenant_id text not null,
        memory_id text not null,
        scope_key text not null,
        embedding extensions.vector(384) not null,
        primary key (tenant_id, memory_id),
        foreign key (tenant_id, memory_id) references memory.memory (tenant_id, id)
    """,
    # One row for each scope that ever held something; whoever writes to a scope locks it first.
    "scope_stats": """
        tenant_id text not null,
        scope_key text not null,
        document_count bigint not null default 0 check (document_count >= 0),
        total_length bigint not null default 0 check (total_length >= 0),
        primary key (tenant_id, scope_key)
    """,
    "membership": """
        tenant_id text not null,
        scope_key text not null,
        version bigint not null,
        primary key (tenant_id, scope_key)
    """,
    "scope_member": """
        tenant_id text not null,
        member_id text not null,
        scope_key text not null,
        primary key (tenant_id, member_id, scope_key),
        foreign key (tenant_id, scope_key) references memory.membership (tenant_id, scope_key)
    """,
    # Beside the memory, so that a recall does not write new versions of its text and indexes.
    "recall_stat": """
        tenant_id text not null,
        memory_id text not null,
        recalled_count bigint not null,
        last_recalled_at timestamptz not null,
        primary key (tenant_id, memory_id),
        foreign key (tenant_id, memory_id) references memory.memory (tenant_id, id)
    """,
}

INDEXES = (
    # The same text is not stored twice in a scope; in an agent's own, once for each owner.
    "unique index memory_text_once on memory.memory (tenant_id, scope_key, content_hash,"
    " (case scope_kind when 'private' then owner_user_id else '' end)) where state = 'active'",
    "index memory_of_scope on memory.memory (tenant_id, scope_key, id)",
    "index memory_of_owner on memory.memory (tenant_id, owner_user_id, id)",
    "index memory_of_session on memory.memory (tenant_id, session_id, id) where session_id <> ''",
    "index memory_pending on memory.memory (tenant_id, scope_key)"
    " where state = 'active' and not embedded",
    "index posting_of_memory on memory.posting (tenant_id, memory_id)",
    "index embedding_of_scope on memory.embedding (tenant_id, scope_key)",
    "index embedding_near on memory.embedding"
    " using hnsw (embedding extensions.vector_cosine_ops) with (m = 16, ef_construction = 64)",
    "index scope_member_of_scope on memory.scope_member (tenant_id, scope_key)",
)


def upgrade() -> None:
    """Create the schema's tables."""
    mesh_tables(op, SCHEMA)
    for table, columns in TABLES.items():
        op.execute(f"create table {SCHEMA}.{table} ({columns})")
        tenant_table(op, table, schema=SCHEMA)
    for index in INDEXES:
        op.execute(f"create {index}")
