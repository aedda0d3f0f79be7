"""Answer in a chat: do what the words ask for with the tools on offer, and tell what came of it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gathering_agent.models import JsonObject, JsonValue
from gathering_agent.offline.choosing import Choice, choose, clauses
from gathering_agent.offline.evidence import Found, found
from gathering_agent.offline.models_outcomes import Thought
from gathering_agent.offline.story import SUBMIT, Done, Story, rows, shown, text, words_of
from gathering_agent.offline.topics import TOPICS, Topic, search_topic
from gathering_agent.offline.words import LONGEST, overlap, plural, stems

NOTICE = "I am the offline model: a rule-based program, not a language model."
_REMEMBER = re.compile(
    r"^\s*(?:please\s+)?(?:remember|note|keep in mind)(?:\s+that)?[:\s]+(.+)$",
    re.IGNORECASE | re.DOTALL,
)
_RECALL = re.compile(
    r"\b(?:what (?:do|did) you (?:know|remember)(?: of| about)?|do you (?:know|remember)(?: of| "
    r"about| anything about)?|recall|what have you learned(?: about)?)\b\s*(.*)$",
    re.IGNORECASE | re.DOTALL,
)
_MOST = re.compile(r"\b(?:most complex|longest|largest|biggest)\b", re.IGNORECASE)
_READS = re.compile(r"\b(?:read|open|show(?: me)?|print)\b", re.IGNORECASE)
_READ = "fs_read"
_CALLS = 4  # of one request at most
_ENTRIES = 15
_LONGEST = 6000  # characters of one result
_LONGEST_QUERY = 4_000
_LONGEST_NOTE = 20_000
_BLOCK_LINES = 40


def chat(story: Story) -> Thought:
    """Return the next step: tool calls, or the answer."""
    if not story.closing:
        calls = list(_calls(story))[: min(_CALLS, story.left)]
        if calls:
            names = ", ".join(dict.fromkeys(tool for tool, _ in calls))
            return Thought(f"{NOTICE} Using {names}.", tuple(calls))
    return Thought(_answer(story))


def _calls(story: Story) -> Iterator[tuple[str, JsonObject]]:
    if story.done:
        yield from _following(story)
        return
    remembered = _REMEMBER.match(story.asked)
    recalled = _RECALL.search(story.asked[:LONGEST])
    if remembered and "memory_remember" in story.tools:
        yield "memory_remember", {"text": remembered[1].strip()[:_LONGEST_NOTE]}
    elif recalled and "memory_recall" in story.tools:
        yield (
            "memory_recall",
            {"query": (recalled[1].strip(" ?.!") or story.asked)[:_LONGEST_QUERY]},
        )
    else:
        yield from _chosen(story)


def _chosen(story: Story) -> Iterator[tuple[str, JsonObject]]:
    """Yield a call for each part of the request that a tool fits."""
    tools = {
        name: tool
        for name, tool in story.tools.items()
        if name != SUBMIT and not name.startswith("memory_")
    }
    seen: list[tuple[str, JsonObject]] = []
    for clause in clauses(story.asked):
        choice = choose(clause, tools)
        if choice is None or choice.missing:
            continue
        call = (choice.tool, _with_defaults(choice, story))
        if call not in seen:
            seen.append(call)
            yield call


def _with_defaults(choice: Choice, story: Story) -> JsonObject:
    """Return the arguments, with those that an examination of the topic would use beside them."""
    usual = next((topic.arguments for topic in TOPICS if topic.tool == choice.tool), {})
    known = story.tools[choice.tool].parameters.get("properties")
    fitting = {n: v for n, v in usual.items() if isinstance(known, dict) and n in known}
    return {**fitting, **choice.arguments}


def _following(story: Story) -> Iterator[tuple[str, JsonObject]]:
    """Yield the call that an earlier result makes possible: to read what was found to be most."""
    if _READ not in story.tools or story.tried(_READ):
        return
    head = story.asked[:LONGEST]
    if not (_MOST.search(head) and _READS.search(head)):
        return
    for done in story.done:
        entries = _found(done).entries if done.ok else ()
        if entries:
            top = entries[0]
            start = {"start_line": top.line} if top.line else {}
            yield _READ, {"path": top.path, **start, "line_count": _BLOCK_LINES}
            return


# --- The answer ---------------------------------------------------------------------------------


def _answer(story: Story) -> str:
    parts = [_told(done) for done in story.done]
    if not parts:
        parts = list(_without_tools(story))
    elif story.memories and not any(done.tool.startswith("memory_") for done in story.done):
        parts += list(_memories(story))
    return "\n\n".join([*parts, NOTICE])


def _without_tools(story: Story) -> Iterator[str]:
    memories = list(_memories(story))
    yield from memories
    names = sorted(name for name in story.tools if name != SUBMIT)
    wanting = next(
        (c for c in (choose(one, story.tools) for one in clauses(story.asked)) if c and c.missing),
        None,
    )
    if wanting is not None:
        yield f"{wanting.tool} would fit, but you did not say: {', '.join(wanting.missing)}."
    elif story.closing:
        yield "The bound on tool calls of this turn is reached."
    elif not memories:
        yield "No tool of mine fits the words of this request, and I remember nothing about it."
    if names and wanting is None:
        yield f"I can use: {', '.join(names)}."


def _memories(story: Story) -> Iterator[str]:
    wanted = set(stems(story.asked[:LONGEST]))
    fitting = [memory for memory in story.memories if overlap(wanted, stems(memory))]
    if fitting:
        yield "\n".join(["What I remember about this:", *(f"- {memory}" for memory in fitting)])


def _told(done: Done) -> str:
    if not done.ok:
        return f"`{done.tool}` did not work: {done.text}"
    if done.tool == "memory_remember":
        return f"I will remember: {done.arguments.get('text')}"
    if done.tool == "memory_recall":
        return _recalled(done)
    if done.tool == _READ:
        return _content(done)
    known = _found(done)
    return _listed(known) if known.headline else _plain(done)


def _recalled(done: Done) -> str:
    known = rows(done.data, "memories")
    if not known:
        return f"I remember nothing about {done.arguments.get('query')}."
    lines = [f"- ({text(one, 'scope')}) {text(one, 'text')}" for one in known]
    return "\n".join([f"I remember {plural(len(known), 'thing')}:", *lines])


def _content(done: Done) -> str:
    start, end = done.data.get("start_line"), done.data.get("end_line")
    head = f"`{text(done.data, 'path')}`, lines {start} to {end}:"
    return f"{head}\n```\n{text(done.data, 'content')[:_LONGEST]}\n```"


def _found(done: Done) -> Found:
    topic = next((one for one in TOPICS if one.tool == done.tool), None)
    if topic is None and done.tool == "search_text":
        topic = search_topic(str(done.arguments.get("pattern", "")))
    if topic is None:
        return Found(Topic("", "", re.compile("$^"), "", {}, ""), done, "")
    return found(topic, done)


def _listed(known: Found) -> str:
    lines = [known.headline, *known.notes]
    lines += [f"- `{entry.where}` {entry.rule}: {entry.what}" for entry in known.entries[:_ENTRIES]]
    more = known.total - min(len(known.entries), _ENTRIES)
    if known.entries and more > 0:
        lines.append(f"... and {more} more.")
    if known.block:
        lines += ["```", known.block[:_LONGEST], "```"]
    return "\n".join(lines)


def _plain(done: Done) -> str:
    """Tell a result of a form that no rule knows: its fields, lists by their first rows."""
    lines = [f"`{done.tool}` ({shown(done.arguments)}):"]
    for name, value in done.data.items():
        lines += _field(done, name, value)
    return "\n".join(lines if done.data else [*lines, done.text])[:_LONGEST]


def _field(done: Done, name: str, value: JsonValue) -> Iterator[str]:
    if isinstance(value, list):
        yield f"- {name}: {plural(len(value), 'item')}"
        for row in rows(done.data, name)[:_ENTRIES]:
            yield f"  - {shown(row)}"
        for word in words_of(done.data, name)[:_ENTRIES]:
            yield f"  - {word}"
    elif isinstance(value, dict):
        yield f"- {name}: {shown(value)}"
    elif value not in ("", None):
        yield f"- {name}: {value}"
