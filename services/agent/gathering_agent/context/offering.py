"""The tools of a step: those that there is room for, and what they and the rest may take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gathering_agent.context.counting import tokens
from gathering_agent.context.windows import parts
from gathering_agent.providers.models_dialogue import ModelRequest, Said, ToolSpec, ToolUse

# Tokens of a provider's own around a text, with ids and marks, and before them all.
_FRAME = 128
_PREAMBLE = 2048


@dataclass(frozen=True, slots=True)
class Offer:
    """The tools that a model is told of, and the names of those that there is no room for."""

    tools: tuple[ToolSpec, ...]
    use: ToolUse
    tokens: int
    reason: str
    left_out: tuple[str, ...] = ()


def offered(
    tools: Sequence[ToolSpec], submit: ToolSpec | None, room: int, *, forced: bool
) -> Offer:
    """Return as many tools as fit into so many tokens, the first ones first.

    `submit` always does. A dialogue with tool calls must keep naming some tools, so that a forced
    step without it names them and lets none be called.
    """
    own = (submit,) if submit else ()
    left = room - sum(map(_size, own))
    if forced and submit:
        return Offer(own, ToolUse.AUTO, _size(submit), "only the result is asked for")
    kept: list[ToolSpec] = []
    left_out: list[str] = []
    for tool in tools:
        cost = _size(tool)
        if cost > left:
            left_out.append(tool.name)
            continue
        kept.append(tool)
        left -= cost
    told = (*kept, *own)
    why = f"{len(told)} on offer" + (f", no room for {len(left_out)} more" if left_out else "")
    use = ToolUse.NONE if forced else ToolUse.AUTO
    return Offer(told, use, sum(map(_size, told)), why, tuple(left_out))


def _size(tool: ToolSpec) -> int:
    return tokens(tool.text)


def _texts(said: Iterable[Said]) -> Iterable[str]:
    return (text for one in said for text in parts(one))


def input_bound(asked: ModelRequest) -> int:
    """Return what the input of a model call can have at most, in tokens.

    No token stands for less than a byte of its text; what an image costs is in the catalogue.
    Besides there is what frames messages, calls and tools in the provider's prompt.
    """
    pieces = [asked.system, "".join(tool.text for tool in asked.tools), *_texts(asked.messages)]
    images = [image.tokens for said in asked.messages for image in said.images]
    frames = len(pieces) + len(asked.messages) + len(asked.tools) + len(images)
    text = sum(len(piece.encode()) for piece in pieces)
    return text + sum(images) + _FRAME * frames + _PREAMBLE
