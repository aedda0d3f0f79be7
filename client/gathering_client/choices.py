"""Values of enumerations, as people type them."""

from collections.abc import Sequence

import typer

from gathering.agent.v1 import session_pb2


def chosen(names: Sequence[str], prefix: str, given: str) -> str:
    """Return the name of the value that is meant by a word; ends the command if there is none."""
    known = [name for name in names if not name.endswith("_UNSPECIFIED")]
    found = f"{prefix}_{given.upper().replace('-', '_')}"
    if found not in known:
        words = ", ".join(name.removeprefix(f"{prefix}_").lower() for name in known)
        raise typer.BadParameter(f"{given!r} is none of {words}")
    return found


def resume_strategy(given: str) -> session_pb2.ResumeStrategy.ValueType:
    """Return the strategy that is meant by a word; empty: none is named."""
    if not given:
        return session_pb2.RESUME_STRATEGY_UNSPECIFIED
    names = session_pb2.ResumeStrategy.keys()
    return session_pb2.ResumeStrategy.Value(chosen(names, "RESUME_STRATEGY", given))
