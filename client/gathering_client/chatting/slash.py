"""What can be typed beside messages: `/help` and the others."""

import difflib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from gathering.agent.v1 import (
    agent_pb2,
    agent_service_pb2,
    budget_service_pb2,
    model_service_pb2,
    session_pb2,
    session_service_pb2,
    turn_service_pb2,
)
from gathering.memory.v1 import memory_pb2, memory_service_pb2
from gathering_client.chatting.conversation import Conversation
from gathering_client.chatting.finding import latest_sessions
from gathering_client.chatting.reading import show_messages
from gathering_client.chatting.words import (
    ago,
    context_rows,
    context_words,
    counted,
    shortened,
    spent_words,
)
from gathering_client.output import console, print_table, visible
from gathering_client.paging import all_pages

_SESSIONS = 20
_MESSAGES = 10
_MEMORIES = 20
_TITLE = 40  # characters


class NotSoError(Exception):
    """What was typed cannot be done; the message says why."""


@dataclass(frozen=True)
class _Command:
    usage: str
    help: str
    run: Callable[[str], Awaitable[None]]


class SlashCommands:
    """The commands on a conversation; `talk` is the one that goes on, which some replace."""

    def __init__(self, talk: Conversation) -> None:
        self.talk = talk
        self.left = False
        self._commands = {
            "help": _Command("", "this list", self._help),
            "agent": _Command("", "whom you talk to", self._agent),
            "model": _Command("[NAME]", "the agent's model, or give it another", self._model),
            "sessions": _Command("[WORDS]", "your latest sessions with this agent", self._sessions),
            "session": _Command("ID", "go on with another session", self._session),
            "new": _Command("[TITLE]", "begin a new session", self._new),
            "title": _Command("TITLE", "give this session a title", self._title),
            "fork": _Command("[MESSAGE]", "go on in a copy, up to a message", self._fork),
            "history": _Command("[COUNT]", "what was said last, with ids", self._history),
            "image": _Command("FILE", "show a picture with what you say next", self._image),
            "memories": _Command("", "what the agent remembers of you", self._memories),
            "context": _Command("", "what the model was told last, by sections", self._context),
            "cost": _Command("", "what this session used", self._cost),
            "watch": _Command("", "follow a turn that runs elsewhere", self._watch),
            "cancel": _Command("", "cancel a turn that runs elsewhere", self._cancel),
            "quit": _Command("", "leave; Ctrl-D does so as well", self._quit),
        }

    async def run(self, line: str) -> None:
        """Run what was typed; NotSoError, GatheringError."""
        name, _, rest = line.removeprefix("/").partition(" ")
        name = {"exit": "quit", "q": "quit", "?": "help"}.get(name.casefold(), name.casefold())
        command = self._commands.get(name)
        if command is None:
            near = difflib.get_close_matches(name, self._commands, 1)
            meant = f"; did you mean /{near[0]}?" if near else "; /help lists them"
            raise NotSoError(f"There is no /{visible(name)}{meant}")
        await command.run(rest.strip())

    async def _help(self, _: str) -> None:
        print_table(
            ("", ""),
            [
                *((f"/{n} {c.usage}".strip(), c.help) for n, c in self._commands.items()),
                ("line \\ ", "a backslash at the end: the message goes on"),
                ('"""', "several lines, up to the next three quotes"),
                ("//text", "a message that begins with a slash"),
                ("Ctrl-C", "cancels the turn; once more leaves"),
            ],
        )

    async def _agent(self, _: str) -> None:
        agent = self.talk.agent
        told = [
            ("agent", f"{agent.name} ({agent.agent_id}), version {agent.version}"),
            ("role", agent.persona.role),
            ("model", agent.model or "the server's default"),
            ("session", self.talk.session.session_id),
            ("title", self.talk.session.title),
            ("workspace", self.talk.session.workspace_id),
        ]
        print_table(("", ""), [(name, visible(value)) for name, value in told if value])

    async def _model(self, name: str) -> None:
        if name:
            self.talk.agent = await self.talk.mesh.agents.UpdateAgent(
                agent_service_pb2.UpdateAgentRequest(
                    agent_id=self.talk.agent.agent_id,
                    agent=agent_pb2.Agent(model=name),
                    update_mask=FieldMask(paths=["model"]),
                    etag=self.talk.agent.etag,
                )
            )
        found = await self.talk.mesh.models.ListModels(model_service_pb2.ListModelsRequest())
        used = self.talk.agent.model or found.default_model
        print_table(
            ("", "model", ""),
            [
                (">" if each.name == used else "", each.name, "" if each.available else "no key")
                for each in found.models
            ],
        )

    async def _sessions(self, query: str) -> None:
        found = await latest_sessions(
            self.talk.mesh, agent_id=self.talk.agent.agent_id, query=query
        )
        print_table(
            ("session", "title", "messages", "last"),
            [
                (
                    each.session_id,
                    visible(shortened(each.title, _TITLE)),
                    str(each.message_count),
                    ago(each.last_message_time) if each.HasField("last_message_time") else "-",
                )
                for each in found[:_SESSIONS]
            ],
        )

    async def _session(self, session_id: str) -> None:
        request = session_service_pb2.GetSessionRequest(session_id=session_id)
        await self._go_on(await self.talk.mesh.sessions.GetSession(request))
        await show_messages(self.talk.mesh, self.talk.session)

    async def _new(self, title: str) -> None:
        request = session_service_pb2.CreateSessionRequest(
            agent_id=self.talk.agent.agent_id,
            title=title,
            workspace_id=self.talk.session.workspace_id,
        )
        await self._go_on(await self.talk.mesh.sessions.CreateSession(request))

    async def _title(self, title: str) -> None:
        if not title:
            console.print(visible(self.talk.session.title) or "no title", markup=False)
            return
        await self.talk.entitle(title)

    async def _fork(self, message_id: str) -> None:
        if not message_id:
            messages = await self._last_messages(1)
            if not messages:
                raise NotSoError("Nothing was said yet: there is nothing to fork.")
            message_id = messages[-1].message_id
        request = session_service_pb2.ForkSessionRequest(
            session_id=self.talk.session.session_id, message_id=message_id
        )
        await self._go_on(await self.talk.mesh.sessions.ForkSession(request))

    async def _history(self, count: str) -> None:
        try:
            most = int(count or _MESSAGES)
        except ValueError:
            raise NotSoError(f"{count!r} is not a number") from None
        await self.talk.refresh()
        await show_messages(self.talk.mesh, self.talk.session, most=max(1, most), ids=True)

    async def _image(self, name: str) -> None:
        try:
            self.talk.show_picture(name)
        except (OSError, ValueError) as error:
            raise NotSoError(f"There is no picture to show: {error}") from None
        console.print(f"{counted(len(self.talk.pictures), 'picture')} will go with your message.")

    async def _memories(self, _: str) -> None:
        request = memory_service_pb2.ListMemoriesRequest(
            agent_id=self.talk.agent.agent_id, page_size=_MEMORIES * 2
        )
        found = (await self.talk.mesh.memories.ListMemories(request)).memories
        active = [one for one in found if one.state == memory_pb2.MEMORY_STATE_ACTIVE]
        print_table(
            ("memory", "scope", "text"),
            [
                (
                    one.memory_id,
                    memory_pb2.ScopeKind.Name(one.scope.kind).removeprefix("SCOPE_KIND_").lower(),
                    visible(one.text),
                )
                for one in active[:_MEMORIES]
            ],
        )

    async def _context(self, _: str) -> None:
        last = await self.talk.last_turn()
        if last is None:
            raise NotSoError("Nothing was said yet.")
        request = turn_service_pb2.GetTurnContextRequest(turn_id=last.turn_id)
        found = await self.talk.mesh.turns.GetTurnContext(request)
        console.print(context_words(found), markup=False)
        print_table(("section", "tokens", "", "why"), context_rows(found))

    async def _cost(self, _: str) -> None:
        console.print(await spent(self.talk), markup=False)

    async def _watch(self, _: str) -> None:
        living = await self.talk.living()
        if living is None:
            raise NotSoError("No turn of this session runs.")
        await self.talk.follow(living.turn_id)

    async def _cancel(self, _: str) -> None:
        living = await self.talk.living()
        if living is None:
            raise NotSoError("No turn of this session runs.")
        await self.talk.cancel(living.turn_id)
        console.print("Cancelled.")

    async def _quit(self, _: str) -> None:
        self.left = True

    async def _go_on(self, session: session_pb2.Session) -> None:
        old = self.talk
        self.talk = await Conversation.open(old.mesh, old.screen, session, asks=old.asks)
        self.talk.strategy = old.strategy
        where = f"session {session.session_id} with {visible(self.talk.agent.name)}"
        self.talk.screen.note(f"Now in {where}.")

    async def _last_messages(self, count: int) -> list[session_pb2.Message]:
        request = session_service_pb2.ListMessagesRequest(session_id=self.talk.session.session_id)
        pages = await all_pages(self.talk.mesh.sessions.ListMessages, request)
        return [message for page in pages for message in page.messages][-count:]


async def spent(talk: Conversation) -> str:
    """Return what a session used since it was created."""
    start = Timestamp(seconds=talk.session.create_time.seconds)
    request = budget_service_pb2.GetUsageRequest(
        session_id=talk.session.session_id, start_time=start
    )
    pages = await all_pages(talk.mesh.budgets.GetUsage, request)
    return spent_words(row for page in pages for row in page.rows)
