"""Turns of the offline model with the real tools of the skills service, without the services.

The tools are the product's own; only the RPCs between are left out, so that many directories can
be tried in the time of one.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gathering_agent.context.prompts import SUBMIT_NOW
from gathering_agent.models import JsonObject, Role, ToolCall, ToolResult, as_text, call_id
from gathering_agent.offline.model import think
from gathering_agent.providers.models_dialogue import ModelRequest, Said, ToolSpec
from gathering_agent.turns.own_tools import RECALL_SPEC, REMEMBER_SPEC, SUBMIT, submit_spec
from gathering_agent.turns.result_schema import problems
from gathering_orchestrator.tasks.prompts import REVIEW_SCHEMA, WORK_SCHEMA
from gathering_skills.confined.root import Root
from gathering_skills.errors import ArgumentsInvalid, ToolError
from gathering_skills.provider_inspector import InspectorProcess
from gathering_skills.tooling.context import Workspace
from gathering_skills.tooling.tool import Tool
from gathering_skills.tools.standard import SKILLS

RUFF = Path(sys.executable).with_name("ruff")
_STEPS = 12


def plain(schema: Mapping[str, Any]) -> JsonObject:
    """Return a schema of the orchestrator's as a turn gets it."""
    copied: JsonObject = json.loads(json.dumps(schema, default=dict))
    return copied


WORK = plain(WORK_SCHEMA)
REVIEW = plain(REVIEW_SCHEMA)


@dataclass
class Turn:
    """What came of a turn."""

    text: str
    result: JsonObject | None
    calls: list[ToolCall]
    results: list[ToolResult]

    @property
    def tools(self) -> list[str]:
        """Return the names of the tools that were called."""
        return [call.tool for call in self.calls]


@dataclass
class Agent:
    """An agent with the offline model, the tools, a memory, and a session per key."""

    tools: dict[str, Tool]
    root: Root
    inspector: InspectorProcess
    memories: list[str] = field(default_factory=list)
    sessions: dict[str, list[Said]] = field(default_factory=dict)
    turn_count: int = 0

    async def turn(
        self,
        text: str,
        schema: JsonObject | None = None,
        *,
        max_tool_calls: int = 100,
        session: str = "",
        without: tuple[str, ...] = (),
    ) -> Turn:
        """Run a turn as the service does: steps until an answer or a result."""
        self.turn_count += 1
        turn = Turn("", None, [], [])
        messages = self.sessions.setdefault(session or f"{self.turn_count}", [])
        messages.append(Said(Role.USER, text))
        left = max_tool_calls
        for step in range(1, _STEPS):
            turn.text, calls = self._step(messages, schema, left, step, without)
            if not calls:
                return turn
            results = []
            for call in calls:
                if call.tool == SUBMIT:
                    assert schema is not None
                    assert not problems(schema, call.arguments), problems(schema, call.arguments)
                    turn.result = call.arguments
                    return turn
                assert left > 0, "asked for more than the bound"
                left -= 1
                results.append(await self._run(call))
            turn.calls += calls
            turn.results += results
            messages.append(Said(Role.TOOL, tool_results=tuple(results)))
        raise AssertionError("no end")

    def _step(
        self,
        messages: list[Said],
        schema: JsonObject | None,
        left: int,
        step: int,
        without: tuple[str, ...],
    ) -> tuple[str, tuple[ToolCall, ...]]:
        specs = [
            ToolSpec(name, tool.spec.description, plain(tool.spec.arguments_schema))
            for name, tool in sorted(self.tools.items())
            if name not in without
        ]
        offered = [*specs, REMEMBER_SPEC, RECALL_SPEC] if left else []
        if schema is not None:
            offered.append(submit_spec(schema))
        reminder = [] if left else [Said(Role.USER, SUBMIT_NOW)]
        turn_id = f"trn_{self.turn_count:032d}"
        request = ModelRequest(
            turn_id, step, "offline", "", (*messages, *reminder), tuple(offered),
            tool_calls_left=left, memories=tuple(self.memories), result_schema=schema,
        )  # fmt: skip
        thought = think(request)
        assert thought == think(request), "not deterministic"
        calls = tuple(
            ToolCall(call_id(turn_id, step, place), tool, arguments)
            for place, (tool, arguments) in enumerate(thought.calls)
        )
        messages.append(Said(Role.ASSISTANT, thought.text, calls))
        return thought.text, calls

    async def _run(self, call: ToolCall) -> ToolResult:
        if call.tool == "memory_remember":
            self.memories.append(str(call.arguments["text"]))
            return ToolResult(call.call_id, call.tool, '{"memory_id":"mem_1"}')
        if call.tool == "memory_recall":
            found: list[Any] = [{"text": text, "scope": "private"} for text in self.memories]
            return ToolResult(call.call_id, call.tool, as_text({"memories": found}))
        try:
            tool = self.tools[call.tool]
            work = Workspace(
                call.call_id, 1, _held, _told, root=self.root, inspector=self.inspector
            )
            output = await tool.run(work, tool.check(call.arguments))
            return ToolResult(call.call_id, call.tool, as_text(plain(output)))
        except (ToolError, ArgumentsInvalid) as error:
            return ToolResult(call.call_id, call.tool, str(error), failed=True)


async def _held() -> None:
    """Nobody else holds the work here."""


async def _told(text: str) -> None:
    """Nobody watches here."""


@asynccontextmanager
async def working_in(folder: Path, scratch: Path) -> AsyncIterator[Agent]:
    """Give an agent a directory."""
    tools = {tool.spec.name: tool for skill in SKILLS for tool in skill.tools}
    scratch.mkdir(exist_ok=True)  # noqa: ASYNC240 (of a test)
    root = Root.open(str(folder.resolve()))  # noqa: ASYNC240 (of a test)
    try:
        yield Agent(tools, root, InspectorProcess(RUFF, scratch, 2))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
