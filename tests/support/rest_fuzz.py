"""Call all operations of the OpenAPI document with what its schemas allow, and do not allow."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

_STREAM = "text/event-stream"
_SECONDS = 60.0
_CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# A wrong password locks its user out, and logins that are ended take the token with them: so these
# come last, with nobody logging in after them.
DOORS = ("UserService_ChangePassword", "UserService_RevokeLogins")
_NEGATIVE_SHARE = 3  # one call of so many is against the document


@dataclass
class Report:
    """What a run found: statuses by operation, and each failure in words."""

    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    @property
    def calls(self) -> int:
        """How many calls were made."""
        return sum(self.statuses.values())


@dataclass(frozen=True)
class RestFuzz:
    """Calls an edge. `token` gives a fresh token; `ids` are real ones by their fields' names."""

    url: str
    token: Callable[[], str]
    ids: Mapping[str, Sequence[str]]
    doors: bool = False

    def run(self, calls: int, number: int) -> Report:
        """Make about so many calls, the same ones for the same number."""
        report = Report()
        operations = list(self._operations(doors=False))
        last = list(self._operations(doors=True)) if self.doors else []
        each = max(_NEGATIVE_SHARE, -(-calls // len([*operations, *last])))
        with requests.Session() as session:
            session.trust_env = False
            for operation in (*operations, *last):
                if operation not in last:
                    session.headers["authorization"] = f"Bearer {self.token()}"
                negative = each // _NEGATIVE_SHARE
                for mode, count in (
                    (GenerationMode.POSITIVE, each - negative),
                    (GenerationMode.NEGATIVE, negative),
                ):
                    self._many(_Caller(self, session, operation, report), mode, count, number)
        return report

    def _operations(self, *, doors: bool) -> Iterator[APIOperation[Any, Any, Any, Any]]:
        answer = requests.get(f"{self.url}/openapi.json", timeout=_SECONDS)
        found = schemathesis.openapi.from_dict(answer.json())
        for each in found.get_all_operations():
            operation: Any = cast(Any, each).ok()
            if (_id(operation) in DOORS) is doors:
                yield operation

    def _many(self, caller: _Caller, mode: GenerationMode, count: int, number: int) -> None:
        strategy = caller.operation.as_strategy(generation_mode=mode)

        @seed(number)
        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy, st.randoms(use_true_random=False))
        def one(case: Any, chance: Any) -> None:
            caller.call(case, chance)

        one()


def _id(operation: Any) -> str:
    return str(operation.definition.raw["operationId"])


@dataclass(frozen=True)
class _Caller:
    """Makes the calls of one operation."""

    fuzz: RestFuzz
    session: requests.Session
    operation: Any
    report: Report

    def call(self, case: Any, chance: Any) -> None:
        """Call, with real ids in places of some, and note what came."""
        if chance.random() < 0.7:
            for part in (case.path_parameters, case.query, case.body):
                self._name_real_things(part, chance)
        arguments = case.as_transport_kwargs(base_url=self.fuzz.url)
        arguments["headers"].pop("Authorization", None)
        try:
            self._note(case, arguments)
        except requests.exceptions.RequestException as error:
            self._failed(arguments, repr(error))

    def _name_real_things(self, part: Any, chance: Any) -> None:
        if isinstance(part, list):
            for each in part:
                self._name_real_things(each, chance)
        if not isinstance(part, dict):
            return
        for name, value in part.items():
            if isinstance(value, str) and (real := self.fuzz.ids.get(name)):
                part[name] = chance.choice(real)
            else:
                self._name_real_things(value, chance)

    def _note(self, case: Any, arguments: dict[str, Any]) -> None:
        streamed = _STREAM in case.operation.definition.raw["responses"]["200"]["content"]
        with self.session.request(**arguments, timeout=_SECONDS, stream=streamed) as answer:
            self.report.statuses[answer.status_code] += 1
            if streamed and answer.ok:
                return  # it may go on for ever
            try:
                case.validate_response(answer, checks=_CHECKS)
            except (Failure, FailureGroup) as failure:
                self._failed(arguments, f"{answer.status_code} {answer.text[:600]} {failure!r}")

    def _failed(self, arguments: dict[str, Any], what: str) -> None:
        shown = {
            k: arguments[k] for k in ("method", "url", "params", "json", "data") if k in arguments
        }
        self.report.failures.append(f"{json.dumps(shown, default=repr)[:1500]}\n  -> {what[:1500]}")
