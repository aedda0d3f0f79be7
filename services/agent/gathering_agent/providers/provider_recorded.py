"""A provider whose exchanges are recorded once and replayed, in tests and demonstrations."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import cast

from gathering_agent.errors import NotRecorded
from gathering_agent.models import JsonValue
from gathering_agent.ports import ModelProvider
from gathering_agent.providers import provider_recorded_form as form
from gathering_agent.providers.models_dialogue import Answer, ModelEvent, ModelRequest

_log = logging.getLogger(__name__)
_SHOWN = 3  # differences to the nearest recording
_AROUND = 30  # characters of a text around where it differs


def recording_of(folder: Path, name: str) -> Path:
    """Return the file of a provider's exchanges."""
    return folder / f"{name}.jsonl"


class RecordedProvider:
    """Replays what is in its file; what is not there is asked for and recorded, or refused.

    What came to nothing is not recorded: it is asked for again.
    """

    def __init__(self, name: str, folder: Path, provider: ModelProvider | None) -> None:
        """`name` is the provider's, `provider` who is asked; None: nobody, it only replays."""
        self._name = name
        self._file = recording_of(folder, name)
        self._provider = provider
        self._exchanges = {one.hash: one for one in _read(self._file)}
        self._writing = asyncio.Lock()

    async def aclose(self) -> None:
        """Release connections."""
        if self._provider is not None:
            await self._provider.aclose()

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """See `ModelProvider.stream`; NotRecorded, which says what differs."""
        what = form.asked(self._name, request)
        known = self._exchanges.get(what.hash)
        if known is not None:
            for event in form.replay(what, known, request):
                yield event
        elif self._provider is None:
            raise NotRecorded(self._missing(what))
        else:
            events = cast("AsyncGenerator[ModelEvent, None]", self._provider.stream(request))
            async with aclosing(events):
                async for event in self._recording(what, events):
                    yield event

    async def _recording(
        self, what: form.Asked, events: AsyncIterator[ModelEvent]
    ) -> AsyncIterator[ModelEvent]:
        """Pass events on; all of them are in the file before the last one is."""
        seen: list[ModelEvent] = []
        async for event in events:
            seen.append(event)
            if isinstance(event, Answer):
                await self._keep(form.exchange(what, seen))
            yield event

    async def _keep(self, exchange: form.Exchange) -> None:
        async with self._writing:
            if exchange.hash not in self._exchanges:
                await asyncio.to_thread(_append, self._file, form.as_line(exchange))
                self._exchanges[exchange.hash] = exchange

    def _missing(self, what: form.Asked) -> str:
        asked = dict(_leaves(what.request))
        recorded = [dict(_leaves(one.request)) for one in self._exchanges.values()]
        near = min(recorded, key=lambda one: len(asked.items() ^ one.items()), default=None)
        if near is None:
            return f"nothing of {self._name} is recorded in {self._file}"
        paths = [path for path in {**asked, **near} if asked.get(path) != near.get(path)]
        told = "; ".join(
            _difference(path, near.get(path), asked.get(path)) for path in paths[:_SHOWN]
        )
        more = f"; {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
        return (
            f"this request ({what.hash[:12]}) is not recorded in {self._file}; the nearest differs "
            f"in {told}{more}"
        )


def _read(file: Path) -> Iterator[form.Exchange]:
    """Yield what is recorded, but for lines that were not written to their end; ValueError."""
    if not file.exists():
        return
    for number, line in enumerate(file.read_text(encoding="utf-8").split("\n"), 1):
        try:
            if line:
                yield form.of_line(line)
        except json.JSONDecodeError:
            _log.warning("%s, line %d: not written to its end", file, number)
        except ValueError as error:
            raise ValueError(f"{file}, line {number}: {error}") from error


def _append(file: Path, line: str) -> None:
    """Add a line, behind what was left of one that was not written to its end."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab+") as out:
        if out.tell():
            out.seek(-1, 2)
            line = line if out.read(1) == b"\n" else f"\n{line}"
        out.write(line.encode())


def _leaves(value: JsonValue, path: str = "") -> Iterable[tuple[str, str]]:
    """Yield the paths of all values that have no parts, and these as JSON."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value:
        for place, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{place}]")
    else:
        yield path, json.dumps(value, ensure_ascii=False)


def _difference(path: str, recorded: str | None, asked: str | None) -> str:
    if recorded is None or asked is None:
        return f"{path}, which is {'asked' if recorded is None else 'recorded'} only"
    same = next(
        (n for n, (a, b) in enumerate(zip(recorded, asked, strict=False)) if a != b),
        min(len(recorded), len(asked)),
    )
    begin = max(0, same - _AROUND)
    end = same + _AROUND
    return f"{path}: recorded …{recorded[begin:end]}…, asked …{asked[begin:end]}…"
