"""Call every RPC with messages of its type that no program would send."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.e2e.rpcs import Metadata, Rpc, all_rpcs, refusal
from tests.support.messages import messages
from tests.support.rest_fuzz import DOORS

FAULTS = {"INTERNAL", "UNKNOWN", "DATA_LOSS", "UNIMPLEMENTED", "UNAVAILABLE"}
WALKED = [
    rpc
    for rpc in all_rpcs()
    if (rpc.for_users or rpc.rule.public) and rpc.name.replace(".", "_") not in DOORS
]
_SECONDS = 30.0


@dataclass
class Report:
    """What a run found: how often each status came, and faults in words."""

    statuses: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    @property
    def calls(self) -> int:
        """How many calls were made."""
        return sum(self.statuses.values())


@dataclass(frozen=True)
class GrpcFuzz:
    """Calls an edge. `token` gives a fresh token; `ids` are real ones by their fields' names."""

    channel: grpc.Channel
    token: Callable[[], str]
    ids: Mapping[str, Sequence[str]]

    def run(self, calls: int, number: int) -> Report:
        """Make about so many calls, the same ones for the same number."""
        report = Report()
        each = -(-calls // len(WALKED))
        for rpc in WALKED:
            self._many(rpc, each, number, report)
        return report

    def _many(self, rpc: Rpc, count: int, number: int, report: Report) -> None:
        kind: Any = rpc.method.input_type
        metadata = (("authorization", f"Bearer {self.token()}"),)
        found = st.one_of(messages(kind, fitting=False), messages(kind, fitting=True))

        @seed(number)
        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(found, st.randoms(use_true_random=False))
        def one(message: Any, chance: Any) -> None:
            if chance.random() < 0.7:
                self._name_real_things(message, chance)
            status, text = self._call(rpc, message, metadata)
            report.statuses[status] += 1
            if status in FAULTS:
                report.faults.append(f"{rpc.name} {status} {text}\n{message}")

        one()

    def _name_real_things(self, message: Any, chance: Any) -> None:
        for found, value in message.ListFields():
            if found.type == FieldDescriptor.TYPE_STRING and not found.is_repeated:
                if real := self.ids.get(found.name):
                    setattr(message, found.name, chance.choice(real))
            elif _is_ours(found.message_type) and not found.is_repeated:
                self._name_real_things(value, chance)

    def _call(self, rpc: Rpc, message: Any, metadata: Metadata) -> tuple[str, str]:
        streams = rpc.method.server_streaming
        make: Any = self.channel.unary_stream if streams else self.channel.unary_unary
        call = make(rpc.path, request_serializer=lambda m: m.SerializeToString())
        try:
            if streams:
                answers = call(message, metadata=metadata, timeout=_SECONDS)
                next(answers, None)
                answers.cancel()
            else:
                call(message, metadata=metadata, timeout=_SECONDS)
        except grpc.RpcError as error:
            answer = refusal(error, [])  # type: ignore[arg-type]  # of the other kind, alike
            return answer.status, answer.text
        return "OK", ""


def _is_ours(kind: Descriptor | None) -> bool:
    return kind is not None and kind.full_name.startswith("gathering.")
