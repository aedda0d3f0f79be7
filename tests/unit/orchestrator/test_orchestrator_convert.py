"""What is said in the contract's words is the same in ours, and back."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from gathering.orchestrator.v1 import circle_pb2, task_pb2, task_service_pb2
from gathering_orchestrator.circles.convert import (
    circle_fields,
    circle_to_proto,
    duration,
    member_fields,
    member_to_proto,
)
from gathering_orchestrator.circles.models import (
    Circle,
    CircleFields,
    Member,
    MemberFields,
    MemberMode,
    Metrics,
)
from gathering_orchestrator.tasks.convert import (
    artifacts_of,
    draft,
    state_filter,
    task_to_proto,
    verdict,
)
from gathering_orchestrator.tasks.models import (
    Artifact,
    CriterionResult,
    Judgement,
    ScorePart,
    TaskView,
)
from gathering_orchestrator.tasks.models_states import OfferState, TaskState, Verdict
from tests.unit.orchestrator.builders import START, agent_id, member, offer, review, task

texts = st.text(max_size=20)
circles = st.builds(
    CircleFields,
    name=texts,
    purpose=texts,
    workspace_id=texts,
    requires_review=st.booleans(),
    max_rounds=st.integers(1, 20),
    offer_timeout=st.timedeltas(timedelta(seconds=1), timedelta(days=7)),
)


@given(circles)
def test_circle_comes_back_as_it_went(fields: CircleFields) -> None:
    circle = Circle("crc_1", fields, "usr_1", "dlg_1", 17, 1, 1, START)
    shown = circle_to_proto(circle)
    assert circle_fields(shown) == fields
    assert (shown.circle_id, shown.etag, shown.owner_user_id) == ("crc_1", "11", "usr_1")
    assert shown.create_time.ToDatetime().timestamp() == START.replace(tzinfo=None).timestamp()


@given(st.sampled_from(MemberMode), st.booleans())
def test_member_comes_back_as_it_went(mode: MemberMode, can_review: bool) -> None:
    shown = member_to_proto(member(1, mode=mode, can_review=can_review))
    assert member_fields(shown) == MemberFields(agent_id(1), mode, can_review)


def test_defaults_are_those_of_the_contract() -> None:
    fields = circle_fields(circle_pb2.Circle(name="A"))
    assert (fields.requires_review, fields.max_rounds) == (True, 3)
    assert fields.offer_timeout == timedelta(seconds=60)
    assert circle_fields(circle_pb2.Circle(requires_review=False)).requires_review is False
    assert member_fields(circle_pb2.Member(agent_id="a")) == MemberFields(
        "a", MemberMode.MANAGED, can_review=True
    )


def test_metrics_of_an_unknown_member_are_in_the_middle() -> None:
    unknown: Member = member(1, Metrics(open_tasks=2))
    metrics = member_to_proto(unknown).metrics
    assert (metrics.approval_rate, metrics.quality, metrics.open_task_count) == (0.5, 0.5, 2)


def test_every_state_and_verdict_has_its_name_in_the_contract() -> None:
    for state in TaskState:
        value = task_to_proto(TaskView(task(state=state))).state
        assert state_filter(value) is state
    assert state_filter(task_pb2.TASK_STATE_UNSPECIFIED) is None
    for one in Verdict:
        assert verdict(task_pb2.ReviewVerdict.Value(f"REVIEW_VERDICT_{one}")) is one


@given(st.lists(texts, max_size=3), st.sampled_from([None, True, False]), st.integers(0, 10))
def test_draft_keeps_what_was_asked(
    criteria: list[str], requires_review: bool | None, priority: int
) -> None:
    request = task_service_pb2.CreateTaskRequest(
        circle_id="crc", title="T", acceptance_criteria=criteria, priority=priority
    )
    if requires_review is not None:
        request.requires_review = requires_review
    found = draft(request)
    assert found.acceptance_criteria == tuple(criteria)
    assert (found.requires_review, found.priority) == (requires_review, priority)


def test_view_shows_offers_reviews_and_artifacts_but_no_review_that_came_to_nothing() -> None:
    found = Judgement(
        Verdict.CHANGES_REQUESTED, 0.5, "more", (CriterionResult("A", met=False, evidence="e"),)
    )
    view = TaskView(
        task(required_competences=("python",), priority=2),
        offers=(offer(1, OfferState.OPEN, score_parts=(ScorePart("match", 1.0, 0.45),)),),
        reviews=(review(2, 1, found), review(3, 2, None), review(4, 3, None, ended=False)),
        artifacts=(Artifact("a.md", "a" * 64, 3),),
    )
    shown = task_to_proto(view)
    assert shown.offers[0].state == task_pb2.OFFER_STATE_OPEN
    assert not shown.offers[0].HasField("answer_time")
    assert [one.name for one in shown.offers[0].score_parts] == ["match"]
    assert [one.reviewer_agent_id for one in shown.reviews] == [agent_id(2), agent_id(4)]
    assert (shown.reviews[0].criteria[0].met, shown.reviews[0].comment) == (False, "more")
    assert shown.reviews[1].verdict == task_pb2.REVIEW_VERDICT_UNSPECIFIED
    assert artifacts_of(shown.artifacts) == list(view.artifacts)
    assert (shown.priority, list(shown.required_competences)) == (2, ["python"])
    assert not shown.HasField("end_time")


@given(st.timedeltas(timedelta(0), timedelta(days=7)))
def test_spans_keep_their_length(span: timedelta) -> None:
    assert duration(span).ToTimedelta() == span
