"""Proto to model and back, for what models are told; pure."""

from __future__ import annotations

from gathering.agent.v1 import session_pb2, turn_context_pb2
from gathering_agent.context.models import Section, SectionState, Strategy, TurnContext

STRATEGIES: dict[Strategy, session_pb2.ResumeStrategy.ValueType] = {
    strategy: session_pb2.ResumeStrategy.Value(f"RESUME_STRATEGY_{strategy.name}")
    for strategy in Strategy
}
_STATES: dict[SectionState, turn_context_pb2.ContextState.ValueType] = {
    state: turn_context_pb2.ContextState.Value(f"CONTEXT_STATE_{state.name}")
    for state in SectionState
}


def strategy_of(value: session_pb2.ResumeStrategy.ValueType) -> Strategy | None:
    """Return a strategy, None where none is named."""
    return {number: strategy for strategy, number in STRATEGIES.items()}.get(value)


def context_message(told: TurnContext) -> turn_context_pb2.TurnContext:
    """Return what went into a prompt as the contract has it."""
    report = told.report
    return turn_context_pb2.TurnContext(
        turn_id=told.turn_id,
        step=told.step,
        model=report.model,
        context_window_tokens=report.window_tokens,
        max_output_tokens=report.output_tokens,
        estimated_input_tokens=sum(section.tokens for section in report.sections),
        counted_input_tokens=told.counted_tokens,
        resume_strategy=STRATEGIES[report.strategy],
        resume_reason=report.strategy_reason,
        sections=map(_section, report.sections),
    )


def _section(section: Section) -> turn_context_pb2.ContextSection:
    return turn_context_pb2.ContextSection(
        name=section.name,
        state=_STATES[section.state],
        reason=section.reason,
        token_count=section.tokens,
        first_sequence=section.first,
        last_sequence=section.last,
        memories=[
            turn_context_pb2.ContextMemory(
                memory_id=one.memory_id, score=one.score, included=one.included
            )
            for one in section.memories
        ],
    )
