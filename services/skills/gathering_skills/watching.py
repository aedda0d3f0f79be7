"""Read and watch executions as they run: their states, and what their tools tell."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from gathering_mesh.call import Call
from gathering_mesh.postgres import Database, Transaction
from gathering_skills.errors import FieldInvalid
from gathering_skills.executions import Executions
from gathering_skills.models import Execution
from gathering_skills.models_outputs import Output, OutputPart, Place, border, is_inside
from gathering_skills.ports import OutputRows
from gathering_skills.waiting import Wakeups

MOST_READ = 1024 * 1024  # bytes
_PAGE = 64 * 1024  # bytes of a piece that is streamed
_CHARACTER = 4  # bytes of the longest
_POLL_SECONDS = 1.0  # for what happened in another replica, should the log be late
_OUTPUT_POLL_SECONDS = 0.25  # for what a tool tells there, of which the log says nothing
_SLOWER = 1.5  # with each look in vain, down to that for the rest


class Watching:
    """Follows executions, wherever they run."""

    def __init__(
        self, db: Database, executions: Executions, outputs: OutputRows, wakeups: Wakeups
    ) -> None:
        self._db = db
        self._executions = executions
        self._outputs = outputs
        self._wakeups = wakeups

    async def read(self, call: Call, execution_id: str, place: Place, limit: int) -> OutputPart:
        """Return a part of what a tool told; limit 0: as much as may be.

        Raises NotFound, FieldInvalid (`offset_bytes`).
        """
        limit = max(_CHARACTER, limit or MOST_READ)
        async with self._db.transaction(call) as tx:
            execution = await self._executions.visible(tx, call, execution_id)
            place = place.in_attempt(execution.attempt_count)
            output = await self._part(tx, execution, place, limit, "offset_bytes")
            total, cut = await self._outputs.size(tx, execution.id, place.attempt)
        return OutputPart(output, total, execution.state.ended, cut)

    async def _part(
        self, tx: Transaction, execution: Execution, place: Place, limit: int, field: str
    ) -> Output:
        """Return some of an output. What is told of an execution that has ended is complete."""
        attempt, offset = place.attempt, place.offset
        content = await self._outputs.read(tx, execution.id, attempt, offset, limit + 1)
        if is_inside(content):
            raise FieldInvalid(field, "is inside a character")
        return Output(attempt, offset, content[: border(content, limit)].decode())

    async def watch(
        self, call: Call, execution_id: str, place: Place | None = None
    ) -> AsyncGenerator[Execution | Output, None]:
        """Yield an execution as it is now and at each change, until it has ended; NotFound.

        With a place also what its tool tells from there on: all of it before the end, that of an
        attempt after its beginning.
        """
        told: Execution | None = None
        first = _POLL_SECONDS if place is None else _OUTPUT_POLL_SECONDS
        pause = first
        with self._wakeups.of(execution_id, starts=True, output=place is not None) as waiter:
            while True:
                now = None if place else waiter.end
                output = None
                if now is None:
                    now, output = await self._look(call, execution_id, place)
                if not now.state.ended and _changed(told, now):
                    told = now
                    yield now
                if output is not None:
                    place = output.end
                    if output.text:
                        yield output
                        pause = first
                        continue  # there may be more
                if now.state.ended:
                    yield now
                    return
                await waiter.change(pause)
                pause = min(pause * _SLOWER, _POLL_SECONDS)

    async def _look(
        self, call: Call, execution_id: str, place: Place | None
    ) -> tuple[Execution, Output | None]:
        async with self._db.transaction(call) as tx:
            # First the execution: of one that has ended nothing is told any more.
            execution = await self._executions.visible(tx, call, execution_id)
            if place is None:
                return execution, None
            place = place.in_attempt(execution.attempt_count)
            output = await self._part(tx, execution, place, _PAGE, "output_offset_bytes")
        return execution, output


def _changed(told: Execution | None, now: Execution) -> bool:
    return told is None or (told.state, told.attempt_count) != (now.state, now.attempt_count)
