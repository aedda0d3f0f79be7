"""What is shown while a turn runs: to people as it comes, to pipes and programs when it counts."""

import sys
import time
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markdown import Markdown
from rich.markup import escape
from rich.spinner import Spinner
from rich.text import Text

from gathering.agent.v1.session_pb2 import Message
from gathering.agent.v1.turn_pb2 import (
    STOP_REASON_END,
    STOP_REASON_UNSPECIFIED,
    TURN_STATE_WAITING,
    StopReason,
    Turn,
    TurnFrame,
)
from gathering_client.chatting.blocks import Blocks
from gathering_client.chatting.told import Told
from gathering_client.chatting.words import call_words, failure_words, result_words, usage_words
from gathering_client.output import print_json, visible

_PER_SECOND = 10
_TOLD = 5  # lines of what tools tell that are shown while they run
_MARGIN = 4  # lines of the screen that are left for what stands beside the text


class Screen(Protocol):
    """Shows the frames of turns, and notes beside them."""

    def show(self, frame: TurnFrame) -> None:
        """Show the next frame."""

    def note(self, text: str, style: str = "dim") -> None:
        """Say something beside the answer."""

    def pause(self) -> None:
        """Leave the terminal to somebody else until the next frame."""


class TerminalScreen:
    """Writes into a terminal: the answer as Markdown while it comes, tools as they run."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._blocks = Blocks()
        self._told = Told(_TOLD)
        self._doing = ""
        self._since = 0.0

    def show(self, frame: TurnFrame) -> None:
        """Show the next frame."""
        match frame.WhichOneof("frame"):
            case "turn":
                waits = frame.turn.state == TURN_STATE_WAITING
                self._wait("waiting for the turn before" if waits else "thinking")
            case "text_delta":
                self._add(visible(frame.text_delta.text))
            case "step_withdrawn":
                self._withdraw()
            case "step":
                self._step(frame.step)
            case "tool_output":
                self._told.add(frame.tool_output)
                self._refresh()
            case "tool_results":
                self._results(frame.tool_results)
            case "completed":
                self._end(frame.completed)
            case "failed":
                self.note(f"failed: {failure_words(frame.failed)}", "red")
            case "cancelled":
                self.note("cancelled", "yellow")

    def _add(self, text: str) -> None:
        blocks = self._blocks.add(text)
        if blocks and self._live is not None:
            self._live.refresh()  # else what moves shows once more what is printed above it
        for block in blocks:
            self._console.print(Markdown(block))
            self._console.print()
        self._refresh()

    def note(self, text: str, style: str = "dim") -> None:
        """Say something beside the answer."""
        self.pause()
        self._console.print(f"[{style}]{escape(text)}[/]")

    def pause(self) -> None:
        """Take away what moves; what was written stays."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _wait(self, doing: str) -> None:
        self._doing, self._since = doing, time.monotonic()
        self._refresh()

    def _refresh(self) -> None:
        if self._live is None:
            self._live = Live(
                console=self._console, transient=True, refresh_per_second=_PER_SECOND,
                get_renderable=self._moving,
            )  # fmt: skip
            self._live.start()

    def _moving(self) -> RenderableType:
        """Return what is not complete yet, and what goes on."""
        tail = self._blocks.tail(max(1, self._console.height - _MARGIN))
        seconds = round(time.monotonic() - self._since)
        going_on = Spinner("dots", f"[dim]{self._doing} {seconds} s, Ctrl-C cancels[/]")
        told = [_one_line(line) for line in self._told.lines()]
        return Group(*([Markdown(tail)] if tail else []), *told, going_on)

    def _withdraw(self) -> None:
        given = self._blocks.given
        self._blocks.clear()
        if given:
            self.note("(this answer was cut off; it begins anew, what stands above is void)")
        self._wait("thinking")

    def _flush(self) -> None:
        rest = self._blocks.rest
        self._blocks.clear()
        self.pause()
        if rest.strip():
            self._console.print(Markdown(rest))

    def _step(self, step: Message) -> None:
        self._flush()
        for call in step.tool_calls:
            self._console.print(f"[yellow]⚙ {escape(call_words(call.tool, call.arguments))}[/]")
        if step.tool_calls:
            self._wait("running " + ", ".join(sorted({call.tool for call in step.tool_calls})))

    def _results(self, message: Message) -> None:
        self.pause()
        self._told.clear()
        for result in message.tool_results:
            mark = "[red]✗[/]" if result.failed else "[green]✓[/]"
            self._console.print(f"  {mark} [dim]{escape(result_words(result))}[/]")
        self._wait("thinking")

    def _end(self, turn: Turn) -> None:
        self._flush()
        if turn.stop_reason not in {STOP_REASON_END, STOP_REASON_UNSPECIFIED}:
            self.note(f"({stop_words(turn)})", "yellow")
        self.note(usage_words(turn))


def _one_line(line: str) -> Text:
    """Return what a tool told, dimmed and cut at the edge of the screen."""
    return Text(f"  │ {line}", style="dim", no_wrap=True, overflow="ellipsis")


class PlainScreen:
    """Writes the answer alone to standard output, the rest to standard error."""

    def __init__(self, beside: Console) -> None:
        self._beside = beside

    def show(self, frame: TurnFrame) -> None:
        """Show the next frame; text counts when its turn is completed."""
        match frame.WhichOneof("frame"):
            case "step":
                for call in frame.step.tool_calls:
                    self.note(f"⚙ {call_words(call.tool, call.arguments)}")
            case "tool_results":
                for result in frame.tool_results.tool_results:
                    self.note(f"  {'✗' if result.failed else '✓'} {result_words(result)}")
            case "completed":
                turn = frame.completed
                sys.stdout.write(turn.text.rstrip("\n") + "\n")
                sys.stdout.flush()
                if turn.stop_reason not in {STOP_REASON_END, STOP_REASON_UNSPECIFIED}:
                    self.note(f"({stop_words(turn)})", "yellow")
                self.note(usage_words(turn))
            case "failed":
                self.note(f"failed: {failure_words(frame.failed)}", "red")
            case "cancelled":
                self.note("cancelled", "yellow")

    def note(self, text: str, style: str = "dim") -> None:
        """Say something beside the answer."""
        self._beside.print(f"[{style}]{escape(text)}[/]")

    def pause(self) -> None:
        """Nothing moves here."""


class JsonScreen(PlainScreen):
    """Writes frames for programs, a line for each."""

    def show(self, frame: TurnFrame) -> None:
        """Write the next frame."""
        print_json(frame, line=True)


def stop_words(turn: Turn) -> str:
    """Return why a turn ended before it was done."""
    reason = StopReason.Name(turn.stop_reason).removeprefix("STOP_REASON_").lower()
    return {
        "step_limit": "it may not go on: the bound on steps or tool calls was reached",
        "max_tokens": "the answer is cut at the model's output limit",
        "refusal": "the model declined to answer",
        "loop": "it went in circles and was asked to stop",
    }.get(reason, f"it stopped: {reason}")
