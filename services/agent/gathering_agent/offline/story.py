"""What a request tells: what is asked, what was done so far, and what may still be done."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from gathering_agent.context.marking import is_summary, unmarked
from gathering_agent.context.prompts import ANSWER_NOW, SUBMIT_IS_MISSING, SUBMIT_NOW
from gathering_agent.models import JsonObject, JsonValue, Role
from gathering_agent.providers.models_dialogue import ModelRequest, Said, ToolSpec, ToolUse

_REMINDERS = (ANSWER_NOW, SUBMIT_NOW, SUBMIT_IS_MISSING)
SUBMIT = "submit_result"


@dataclass(frozen=True, slots=True)
class Done:
    """A tool call and what came of it; `data` is empty where the result is no JSON object."""

    tool: str
    arguments: JsonObject
    ok: bool
    data: JsonObject
    text: str


@dataclass(frozen=True, slots=True)
class Story:
    """Where a turn stands. `left`: tool calls that may still be made."""

    asked: str
    before: tuple[Done, ...]  # in earlier turns
    done: tuple[Done, ...]  # in this turn
    tools: dict[str, ToolSpec]
    left: int
    memories: tuple[str, ...]
    schema: JsonObject | None

    def last(self, tool: str) -> Done | None:
        """Return the last good call of a tool in this turn."""
        return next((one for one in reversed(self.done) if one.tool == tool and one.ok), None)

    def tried(self, tool: str, arguments: JsonObject | None = None) -> bool:
        """Tell whether a tool was called in this turn (with these arguments)."""
        return any(
            one.tool == tool and (arguments is None or one.arguments == arguments)
            for one in self.done
        )

    @property
    def closing(self) -> bool:
        """Tell whether the turn has to end now."""
        return self.left <= 0


def read(request: ModelRequest) -> Story:
    """Read a request."""
    said = [one for one in request.messages if not _is_aside(one)]
    place = max((i for i, one in enumerate(said) if one.role is Role.USER), default=0)
    usable = request.tools if request.tool_use is ToolUse.AUTO else ()
    return Story(
        asked=said[place].text if said else "",
        before=tuple(_done(said[:place])),
        done=tuple(_done(said[place:])),
        tools={tool.name: tool for tool in usable},
        left=request.tool_calls_left if request.tool_use is ToolUse.AUTO else 0,
        memories=request.memories,
        schema=request.result_schema,
    )


def _is_aside(said: Said) -> bool:
    """Tell whether a message is no part of the dialogue: a reminder, or a summary."""
    return not said.tool_results and (said.text in _REMINDERS or is_summary(said.text))


def _done(said: Sequence[Said]) -> Iterator[Done]:
    for asking, answer in pairwise(said):
        results = {result.call_id: result for result in answer.tool_results}
        for call in asking.tool_calls:
            result = results.get(call.call_id)
            if result is not None:
                text_ = unmarked(result.text)
                data = _object(text_)
                yield Done(call.tool, call.arguments, not result.failed, data, text_)


def _object(text: str) -> JsonObject:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def rows(data: JsonObject, key: str) -> list[JsonObject]:
    """Return the objects of a list in a result."""
    found = data.get(key)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def words_of(data: JsonObject, key: str) -> list[str]:
    """Return the texts of a list in a result."""
    found = data.get(key)
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


def count(data: JsonObject, key: str) -> int:
    """Return a whole number of a result, 0 where there is none."""
    found = data.get(key)
    return int(found) if isinstance(found, int | float) else 0


def text(data: JsonObject, key: str) -> str:
    """Return a text of a result, empty where there is none."""
    found = data.get(key)
    return found if isinstance(found, str) else ""


def shown(arguments: JsonObject, longest: int = 80) -> str:
    """Return arguments as `name=value, ...`, long values cut."""
    parts = (f"{name}={_brief(value, longest)}" for name, value in arguments.items())
    return ", ".join(parts) or "-"


def _brief(value: JsonValue, longest: int) -> str:
    said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    said = " ".join(said.split())
    return said if len(said) <= longest else f"{said[:longest]}..."


def only(names: Iterable[str], tools: dict[str, ToolSpec]) -> list[str]:
    """Return those names that are tools on offer."""
    return [name for name in names if name in tools]
