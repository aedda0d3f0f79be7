"""What the environment tells the orchestrator; times in seconds."""

from __future__ import annotations

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from gathering_mesh.settings import ServiceSettings


class OrchestratorSettings(ServiceSettings):
    """Prefix GATHERING_, as for every service."""

    service: str = Field(default="orchestrator", min_length=1)
    candidate_patience: PositiveFloat = Field(
        default=24 * 3600.0, description="how long a task waits for a busy candidate"
    )
    review_patience: PositiveFloat = Field(
        default=24 * 3600.0, description="how long an EXTERNAL reviewer may take"
    )
    turn_check: PositiveFloat = Field(
        default=300.0, description="after which a turn of which nothing was heard is looked at"
    )
    permission_grace: NonNegativeFloat = Field(
        default=7 * 24 * 3600.0,
        description="from the end of a task to that of the permission to act on; its sessions with"
        " its agents live on that, so they can be asked about their work for so long",
    )
    task_concurrency: PositiveInt = Field(
        default=32, description="tasks that take a step at the same time"
    )
    connections: PositiveInt = Field(
        default=16, description="to the database; steps and calls share them"
    )
    lease: PositiveFloat = Field(default=10.0, description="of a step; then another may take over")
