"""What commands print: texts of others are shown as they are, never read as markup."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from rich.console import Console

from gathering.events.v1.event_pb2 import Event
from gathering.events.v1.orchestrator_events_pb2 import OfferDeclined, ScorePart, TaskOffered
from gathering.orchestrator.v1 import task_pb2
from gathering_client.commands.agents_definition import parse_competence
from gathering_client.commands.budgets import dollars, micro
from gathering_client.commands.events import describe
from gathering_client.commands.memories import parse_scope
from gathering_client.commands.tasks import print_task
from gathering_client.output import clock, print_table, word

TASK = f"tsk_{'0' * 26}abcdef"


def shown(markup: str) -> str:
    """Return what a console makes of a line with markup."""
    output = io.StringIO()
    Console(file=output).print(markup, soft_wrap=True)
    return output.getvalue()


def test_event_is_a_line_with_names_scores_and_short_ids() -> None:
    offered = TaskOffered(
        task_id=TASK,
        agent_name="Ada",
        score=0.8125,
        score_parts=[ScorePart(name="match", value=1, weight=0.4)],
    )
    line = describe(Event(source="orchestrator", task_offered=offered))
    assert "task_offered" in line
    assert "task=tsk_…abcdef" in line
    assert "agent_name=Ada score=0.812 score_parts=(match 1.00x0.40)" in line


@pytest.mark.parametrize("name", ["[/]", "[bold]Ada", "[link=x]", "a\\[b]"])
def test_name_that_looks_like_markup_is_shown_as_it_is(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    declined = OfferDeclined(agent_name=name, reason="at_capacity")
    line = describe(Event(source="orchestrator", offer_declined=declined))
    assert f"agent_name={name}" in shown(line)
    offer = task_pb2.Offer(agent_name=name, state=task_pb2.OFFER_STATE_DECLINED)
    print_task(task_pb2.Task(title=name, state_message=name, offers=[offer]))
    print_table(("name",), [(name,)])
    out = capsys.readouterr().out
    assert out.count(name) == 4


def test_clock_shows_local_time() -> None:
    event = Event()
    moment = datetime(2026, 5, 4, 3, 2, 1, 500_000, UTC)
    event.commit_time.FromDatetime(moment)
    assert clock(event.commit_time) == moment.astimezone().strftime("%H:%M:%S.500")


def test_state_is_a_word() -> None:
    assert word("TASK_STATE_IN_REVIEW") == "in review"


@pytest.mark.parametrize(
    ("text", "name", "strength"),
    [("python", "python", 0.8), ("python=0.5", "python", 0.5), ("a=1", "a", 1.0)],
)
def test_competence_is_read(text: str, name: str, strength: float) -> None:
    found = parse_competence(text)
    assert (found.name, found.strength) == (name, strength)


@pytest.mark.parametrize("text", ["secret", "", "circles:x"])
def test_scope_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Exception, match="is not private"):
        parse_scope(text)


@pytest.mark.parametrize(("text", "millionths"), [("", None), ("2.5", 2_500_000), ("0.000001", 1)])
def test_dollars_are_read_and_shown(text: str, millionths: int | None) -> None:
    assert micro(text) == millionths
    if millionths is not None:
        assert dollars(millionths) == f"${float(text):.6f}"


@pytest.mark.parametrize("text", ["much", "-1", "0.0000001", "nan"])
def test_what_is_no_amount_of_dollars_is_refused(text: str) -> None:
    with pytest.raises(Exception, match="is not an amount"):
        micro(text)


def test_table_that_goes_into_a_pipe_is_not_folded() -> None:
    program = (
        "from gathering_client.output import print_table\n"
        "print_table(['a', 'b'], [['x ' * 90, 'y ' * 90]])"
    )
    bare = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=bare
    )
    assert ("x " * 90).strip() in ran.stdout
    assert ("y " * 90).strip() in ran.stdout
