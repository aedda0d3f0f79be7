"""How the offline model reads: words, prompts, criteria, reports; and how it chooses tools."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gathering_agent.models import JsonObject, Role, ToolCall, ToolResult
from gathering_agent.offline import assignment, report, words
from gathering_agent.offline.choosing import choose, clauses
from gathering_agent.offline.demands import demands_of
from gathering_agent.offline.model import think
from gathering_agent.offline.results import fitted
from gathering_agent.offline.topics import CODE_REVIEW, topics_of, topics_of_task
from gathering_agent.providers.models_dialogue import (
    Answer,
    ModelRequest,
    Said,
    TextDelta,
    ToolSpec,
    ToolUse,
)
from gathering_agent.providers.provider_offline import OfflineProvider


def spec(name: str, description: str, required: tuple[str, ...] = (), **kinds: str) -> ToolSpec:
    properties: JsonObject = {key: {"type": kind} for key, kind in kinds.items()}
    return ToolSpec(name, description, {
        "type": "object", "properties": properties, "required": list(required)
    })  # fmt: skip


TOOLS = {
    tool.name: tool
    for tool in (
        spec("search_text", "Search the content of files.", ("pattern",), pattern="string",
             path="string", include="array", ignore_case="boolean", limit="integer"),
        spec("fs_read", "Read the content of a text file.", ("path",), path="string",
             start_line="integer", line_count="integer"),
        spec("fs_tree", "Show the tree below a directory.", path="string", depth="integer"),
        spec("analysis_complexity", "Measure the complexity of functions.", path="string"),
        spec("weather", "Tells the weather of a city.", ("city",), city="string"),
    )
}  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "tool", "arguments"),
    [
        ("find TODO in *.py", "search_text", {"pattern": "TODO", "include": ["*.py"]}),
        ("search for 'def main' in src/app.py, ignore case, at most 5", "search_text",
         {"pattern": "def main", "path": "src/app.py", "ignore_case": True, "limit": 5}),
        ("read src/app.py", "fs_read", {"path": "src/app.py"}),
        ("show me 20 lines of app.py from line 7", "fs_read",
         {"path": "app.py", "start_line": 7, "line_count": 20}),
        ("what files are here?", "fs_tree", {}),
        ("which functions are most complex?", "analysis_complexity", {}),
        ("what files are in services/agent/?", "fs_tree", {"path": "services/agent"}),
    ],
)  # fmt: skip
def test_tool_and_arguments_follow_from_the_words(
    asked: str, tool: str, arguments: JsonObject
) -> None:
    choice = choose(asked, TOOLS)
    assert choice is not None
    assert (choice.tool, choice.arguments, choice.missing) == (tool, arguments, ())


def test_words_that_fit_no_tool_choose_none() -> None:
    assert choose("Good morning, how are you?", TOOLS) is None
    wanting = choose("tell me the weather", TOOLS)
    assert wanting is not None
    assert wanting.missing == ("city",)


def test_request_of_several_parts_is_split() -> None:
    parts = clauses("find TODO in *.py and which functions are most complex?")
    assert parts == ["find TODO in *.py", "which functions are most complex"]
    assert clauses("say 'this and that'") == ["say 'this and that'"]


def test_names_are_taken_from_a_text() -> None:
    text = "See `a b`, src/app.py:12, docs/how-to.md. Also e.g. *.py and test_?.txt in lib/x/ or 3."
    assert words.paths(text) == ["src/app.py", "docs/how-to.md"]
    assert words.globs(text) == ["*.py", "test_?.txt"]
    assert words.quoted(text) == ["a b"]
    assert words.folders(text) == ["lib/x"]
    assert words.numbers(text) == [3]
    assert words.plural(1, "entry") == "1 entry"
    assert words.plural(2, "entry") == "2 entries"


@given(st.text(max_size=300))
def test_any_text_can_be_asked(text: str) -> None:
    request = ModelRequest("trn_1", 1, "offline", "", (Said(Role.USER, text),),
                           tuple(TOOLS.values()), tool_calls_left=3)  # fmt: skip
    assert think(request).text


@given(st.text(max_size=400))
def test_any_text_can_be_read_as_a_task(text: str) -> None:
    task = assignment.read(f"Task: x\n\n{text}\nAcceptance criteria:\n{text}")
    demands_of(task.criteria)
    topics_of_task(task.title, task.description, task.criteria)
    report.read(text)
    assert task.output


def test_prompt_is_read_by_its_headings() -> None:
    task = assignment.read(
        "Do it. Round 3.\n\nTask: Review and write OUT.md\n\nDescription:\nTwo\nlines\n\n"
        "Acceptance criteria:\n1. First\n   goes on\n2) Second\n\nWorkspace: wsp_1\n\n"
        "Circle: crc_1\n\nEarlier review:\nComment: Task: is no heading here\n\n"
        "Work to review:\nSummary: done\nArtifacts:\n"
        f"- OUT.md (sha256 {'a' * 64}, 12 bytes)\n- other file.txt\n"
    )
    assert (task.title, task.round, task.output) == ("Review and write OUT.md", 3, "OUT.md")
    assert task.criteria == ("First goes on", "Second")
    assert (task.workspace, task.circle, task.summary) == ("wsp_1", "crc_1", "done")
    assert task.earlier_review == "Comment: Task: is no heading here"
    assert [(a.path, a.sha256[:1]) for a in task.artifacts] == [
        ("OUT.md", "a"),
        ("other file.txt", ""),
    ]
    assert not assignment.is_assignment("Task: only this")


@pytest.mark.parametrize(
    ("criterion", "topics"),
    [
        ("Lint findings are listed with file, line, rule and why.", ["lint"]),
        ("The most complex functions are named.", ["complexity"]),
        ("Import cycles are listed.", ["imports"]),
        ("The largest files are listed with their size in lines.", ["size"]),
        ("All TODOs are listed.", ["search:TODO"]),
        ("Security problems and long functions", ["lint", "size"]),
        ("The text is polite.", []),
    ],
)
def test_criterion_tells_its_topics(criterion: str, topics: list[str]) -> None:
    assert [topic.key for topic in topics_of(criterion)] == topics


def test_review_of_code_without_criteria_is_about_everything() -> None:
    assert topics_of_task("Review this code base", "", ()) == list(CODE_REVIEW)


def test_demands_are_read() -> None:
    one, two, three = demands_of(
        ["OUT.md exists and says which tools were run.",
         "At least three findings with file, line, rule and why", "Be nice."]
    )  # fmt: skip
    assert (one.files, one.tools_run) == (("OUT.md",), True)
    assert (two.least, two.parts) == (3, frozenset({"file", "line", "rule", "why"}))
    assert three.plain


def test_answer_names_itself_and_counts_its_tokens() -> None:
    request = ModelRequest("trn_1", 1, "offline", "sys", (Said(Role.USER, "hello there"),))
    assert "offline model" in think(request).text


async def test_provider_streams_what_the_rules_say() -> None:
    request = ModelRequest("trn_1", 1, "offline", "abcd", (Said(Role.USER, "hello there"),))
    events = [event async for event in OfflineProvider(think).stream(request)]
    answer = events[-1]
    assert isinstance(answer, Answer)
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert text == think(request).text
    assert answer.input_tokens == -(-len("abcdhello there") // 4)
    assert answer.output_tokens == -(-len(text.encode()) // 4)


def test_results_of_an_unknown_form_are_told_field_by_field() -> None:
    call = ToolCall("trn_1:1:0", "weather", {"city": "Ulm"})
    result = ToolResult(call.call_id, "weather", '{"sky":"grey","days":[{"name":"Monday"}]}')
    said = (
        Said(Role.USER, "the weather of Ulm"),
        Said(Role.ASSISTANT, "", (call,)),
        Said(Role.TOOL, tool_results=(result,)),
    )
    text = think(ModelRequest("trn_1", 2, "offline", "", said, tuple(TOOLS.values()))).text
    assert "sky: grey" in text
    assert "Monday" in text


def test_recalled_memories_are_told_where_no_tool_fits() -> None:
    request = ModelRequest(
        "trn_1", 1, "offline", "", (Said(Role.USER, "when do we deploy?"),),
        tool_use=ToolUse.NONE, memories=("Deploys happen on Fridays.", "Tea is hot."),
    )  # fmt: skip
    text = think(request).text
    assert "Fridays" in text
    assert "Tea" not in text


def test_schema_of_another_kind_is_filled_as_far_as_rules_can() -> None:
    schema: JsonObject = {
        "type": "object",
        "properties": {
            "summary": {"type": "string"},
            "mood": {"enum": ["good", "bad"]},
            "items": {"type": "array"},
        },
        "required": ["mood", "items", "note"],
    }
    assert fitted(schema, {"summary": "s", "artifacts": []}, "s") == {
        "summary": "s", "mood": "good", "items": [], "note": "s",
    }  # fmt: skip


def test_report_reads_back_what_was_written() -> None:
    text = (
        "# T\n\n## Lint findings\n\n| Where | Rule | What | Why |\n|---|---|---|---|\n"
        "| `a/b.py:3` | F401 x | what \\| more | why |\n\n## Not covered\n\n- Size: bound.\n"
    )
    sections = report.read(text)
    (entry,) = sections[1].rows
    assert (entry.path, entry.line, entry.rule, entry.why) == ("a/b.py", 3, "F401 x", "why")
    assert [one.title for one in sections] == ["T", "Lint findings", "Not covered"]
