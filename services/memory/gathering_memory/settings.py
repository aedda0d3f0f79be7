"""What this service is told by its environment, beyond what every service is told."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field, PositiveInt

from gathering_mesh.settings import ServiceSettings


def _models_dir() -> Path:
    """Return where set-up writes model files unless told otherwise."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "gathering" / "models"


class MemorySettings(ServiceSettings):
    """Settings of the memory service."""

    service: str = Field(default="memory", min_length=1)
    models_dir: Path = Field(
        default_factory=_models_dir, description="folder of the embedder's files"
    )
    embedder_threads: PositiveInt = Field(default=1, description="threads of one model run")
