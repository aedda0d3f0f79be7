"""What was said in a session, for people who come back to it."""

from rich.markup import escape

from gathering.agent.v1 import session_pb2, session_service_pb2
from gathering_client.chatting.words import ago, call_words, result_words
from gathering_client.connection import Gathering
from gathering_client.output import console, visible

_PAGE = 200
_LINES = 12  # that are shown of a text


async def last_messages(
    mesh: Gathering, session: session_pb2.Session, most: int
) -> list[session_pb2.Message]:
    """Return the last messages, oldest first."""
    request = session_service_pb2.ListMessagesRequest(
        session_id=session.session_id, page_size=_PAGE
    )
    found: list[session_pb2.Message] = []
    while True:
        page = await mesh.sessions.ListMessages(request)
        found = [*found, *page.messages][-most:]
        request.page_token = page.next_page_token
        if not request.page_token:
            return found


async def show_messages(
    mesh: Gathering, session: session_pb2.Session, *, most: int = 6, ids: bool = False
) -> None:
    """Show the last messages, long ones by their beginning."""
    messages = await last_messages(mesh, session, most)
    if not messages:
        return
    left_out = session.message_count - len(messages)
    if left_out > 0:
        console.print(f"[dim]… {left_out} messages before; {ago(messages[0].create_time)}:[/]")
    for message in messages:
        show_message(message, ids=ids, most_lines=_LINES)
    console.print(f"[dim]{ago(messages[-1].create_time)}[/]")


def show_message(
    message: session_pb2.Message, *, ids: bool = True, most_lines: int | None = None
) -> None:
    """Show a message: who spoke, what was said, which tools were asked for or answered."""
    role = session_pb2.MessageRole.Name(message.role).removeprefix("MESSAGE_ROLE_").lower()
    who = {"user": "you", "assistant": "agent", "tool": "tools"}.get(role, role)
    console.print(f"[bold]{who}>[/]" + (f" [dim]{message.message_id}[/]" if ids else ""))
    lines = visible(message.text).strip().splitlines()
    for line in lines[:most_lines]:
        console.print(escape(line))
    if most_lines is not None and len(lines) > most_lines:
        console.print(f"[dim]… {len(lines) - most_lines} lines more[/]")
    for image in message.images:
        size = f"{image.width_pixels} x {image.height_pixels}"
        console.print(f"  [cyan]{escape(image.media_type)}, {size}[/]")
    for call in message.tool_calls:
        console.print(f"  [yellow]⚙ {escape(call_words(call.tool, call.arguments))}[/]")
    for result in message.tool_results:
        mark = "[red]✗[/]" if result.failed else "[green]✓[/]"
        console.print(f"  {mark} [dim]{escape(result_words(result))}[/]")
