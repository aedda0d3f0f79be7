"""Arm the fault points of processes that were started with GATHERING_FAULTS, and see them hit."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from gathering_mesh.faults import POINTS
from tests.support.waiting import eventually

Action = Literal["kill", "stop", "raise", "delay"]


@dataclass(frozen=True)
class Faults:
    """The folder that the processes look into."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """Return what the processes have to be told."""
        return {"GATHERING_FAULTS": str(self.folder)}

    def arm(self, point: str, action: Action, *, service: str = "", at: int = 1) -> None:
        """Have whoever passes the point for the n-th time from now act, once."""
        if point not in POINTS:
            raise ValueError(f"there is no point {point}")
        file = self._file(point, service)
        self._hit_file(point, service).unlink(missing_ok=True)
        draft = file.with_name(f"{file.name}.draft")
        draft.write_text(json.dumps({"action": action, "at": at}))
        draft.rename(file)

    def disarm(self) -> None:
        """Take back what nobody has passed."""
        for file in self.folder.iterdir():
            if file.suffix != ".hit":
                file.unlink(missing_ok=True)

    def was_hit(self, point: str, service: str = "") -> bool:
        """Tell whether somebody acted since the point was armed last."""
        return self._hit_file(point, service).exists()

    async def hit(self, point: str, *, service: str = "", seconds: float = 60.0) -> None:
        """Wait until somebody acts."""
        await eventually(partial(self._is_hit, point, service), f"{point} was passed", seconds)

    async def _is_hit(self, point: str, service: str) -> bool:
        return self.was_hit(point, service)

    def _file(self, point: str, service: str) -> Path:
        return self.folder / (f"{service}:{point}" if service else point)

    def _hit_file(self, point: str, service: str) -> Path:
        file = self._file(point, service)
        return file.with_name(f"{file.name}.hit")
