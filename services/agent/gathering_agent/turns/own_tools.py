"""The tools that every agent has by itself: memory, and handing in a result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from gathering_agent.agents.models import MemoryPolicy
from gathering_agent.models import JsonObject, JsonValue, ToolCall, ToolResult, Turn, as_text
from gathering_agent.ports import Memories, Note, Work
from gathering_agent.providers.models_dialogue import ToolSpec
from gathering_agent.turns.result_schema import problems
from gathering_mesh.errors import DomainError, InvalidArgument

REMEMBER = "memory_remember"
RECALL = "memory_recall"
SUBMIT = "submit_result"

_SCOPES = {
    "personal": "you, and only where you work for the user for whom you work now",
    "private": "you, whoever you work for",
    "circle": "the members of a circle",
    "project": "the members of a project",
    "tenant": "everybody",
}
_KINDS = (
    "fact", "decision", "preference", "experience", "skill", "relationship", "context", "error",
    "feedback", "learning",
)  # fmt: skip
_LONGEST_NOTE = 20_000  # characters; the memory service's bound
_LONGEST_QUERY = 4_000
_MOST_HITS = 50
_MOST_TAGS = 20
_DEFAULT_HITS = 10


def _string(description: str, **more: JsonValue) -> JsonObject:
    return {"type": "string", "description": description, **more}


def _scopes() -> str:
    return "; ".join(f"`{scope}`: {who}" for scope, who in _SCOPES.items()) + "."


REMEMBER_SPEC = ToolSpec(
    REMEMBER,
    "Stores something worth knowing later, for yourself or for others.",
    {
        "type": "object",
        "properties": {
            "text": _string("What to remember, understandable by itself.", maxLength=_LONGEST_NOTE),
            "scope": _string(
                f"Who may recall it. {_scopes()} What a user told you of themselves is personal. "
                "`circle` and `project` need `scope_id`. Default: personal; in work on a task: "
                "private.",
                enum=list(_SCOPES),
            ),
            "scope_id": _string("The circle's or project's id."),
            "type": _string("What kind of knowledge it is. Default: fact.", enum=list(_KINDS)),
            "importance": {
                "type": "number",
                "minimum": 0,
                "maximum": 1,
                "description": "0 trivial, 1 vital. Default: 0.5.",
            },
            "tags": {"type": "array", "items": {"type": "string"}, "maxItems": _MOST_TAGS},
        },
        "required": ["text"],
        "additionalProperties": False,
    },
)
RECALL_SPEC = ToolSpec(
    RECALL,
    "Finds what you know about something, over all scopes that you belong to.",
    {
        "type": "object",
        "properties": {
            "query": _string("What to look for, in natural language.", maxLength=_LONGEST_QUERY),
            "limit": {"type": "integer", "minimum": 1, "maximum": _MOST_HITS},
        },
        "required": ["query"],
        "additionalProperties": False,
    },
)


def submit_spec(schema: JsonObject) -> ToolSpec:
    """Return the tool that takes a result of this schema."""
    return ToolSpec(SUBMIT, "Hands in the result of this turn and ends it.", schema)


class OwnTools:
    """Runs the agent's own tools. A failure is a result, except that of reaching a service."""

    def __init__(self, memories: Memories) -> None:
        self._memories = memories
        self._tools: dict[str, Callable[[Work, ToolCall], Awaitable[JsonValue]]] = {
            REMEMBER: self._remember,
            RECALL: self._recall,
        }
        self._specs = {REMEMBER: REMEMBER_SPEC, RECALL: RECALL_SPEC}

    def offered(self, policy: MemoryPolicy) -> tuple[ToolSpec, ...]:
        """Return the tools of an agent with this policy."""
        return tuple(
            spec for spec in self._specs.values() if spec.name != REMEMBER or not policy.read_only
        )

    def has(self, tool: str) -> bool:
        """Tell whether a tool is one of these."""
        return tool in self._tools

    async def run(self, work: Work, call: ToolCall) -> ToolResult:
        """Run a tool; its name in other services is the call's id."""
        wrong = problems(self._specs[call.tool].parameters, call.arguments)
        if wrong:
            return failed(call, f"The arguments do not fit the schema: {'; '.join(wrong)}")
        value = await self._tools[call.tool](work, call)
        return ToolResult(call.call_id, call.tool, as_text(value))

    async def _remember(self, work: Work, call: ToolCall) -> JsonValue:
        given = call.arguments
        importance = given.get("importance")
        tags = given.get("tags")
        note = Note(
            request_id=call.call_id,
            text=str(given["text"]),
            # What one user says in a chat comes up before no other, unless the model says so.
            scope=str(given.get("scope", "private" if work.task_id else "personal")),
            scope_id=str(given.get("scope_id", "")),
            kind=str(given.get("type", "fact")),
            importance=float(importance) if isinstance(importance, int | float) else None,
            tags=tuple(map(str, tags)) if isinstance(tags, list) else (),
        )
        return {"memory_id": await self._memories.remember(work, note)}

    async def _recall(self, work: Work, call: ToolCall) -> JsonValue:
        limit = call.arguments.get("limit")
        query = str(call.arguments["query"])
        found = await self._memories.recall(
            work, query, int(limit) if isinstance(limit, int | float) else _DEFAULT_HITS
        )
        return {
            "memories": [
                {"memory_id": m.memory_id, "text": m.text, "scope": m.scope, "score": m.score}
                for m in found
            ]
        }


def submitted(turn: Turn, call: ToolCall) -> tuple[ToolResult, JsonObject | None]:
    """Take a result in; None where it does not fit."""
    if turn.result_schema is None:
        return failed(call, "This turn asks for no result."), None
    wrong = problems(turn.result_schema, call.arguments)
    if wrong:
        return failed(call, f"The result does not fit its schema: {'; '.join(wrong)}"), None
    return ToolResult(call.call_id, SUBMIT, "Taken."), call.arguments


def failed(call: ToolCall, why: str) -> ToolResult:
    """Return the result of a call that was not made or went wrong."""
    return ToolResult(call.call_id, call.tool, why, failed=True)


def refusal(call: ToolCall, error: DomainError) -> ToolResult:
    """Return the result of a call that a service refused, with what it says about the fields."""
    named = "; ".join(f"{path}: {problem}" for path, problem in error.fields.items())
    kind = "invalid arguments" if isinstance(error, InvalidArgument) else error.reason.lower()
    return failed(call, f"{kind}: {error.message}" + (f" ({named})" if named else ""))
