"""A stored turn of the offline model through the edge, beside a bare call with the same answer."""

from __future__ import annotations

import uuid

from gathering.agent.v1 import turn_pb2, turn_service_pb2
from tests.load.children import child
from tests.load.plan import Plan
from tests.load.report import Row, rows
from tests.load.servers import ECHO
from tests.load.system import System, opened, raw
from tests.load.timing import Sample, Side, closed_loop, compare, cpu_seconds

CHAT = "/gathering.agent.v1.TurnService/Chat"
_BESIDE = "bare grpc.aio, same answer"


def chat(session_id: str, text: str = "say hello") -> turn_service_pb2.ChatRequest:
    """Return a turn to ask for."""
    return turn_service_pb2.ChatRequest(
        request_id=uuid.uuid4().hex, session_id=session_id, text=text
    )


async def measure(system: System, plan: Plan) -> list[Row]:
    """Return the figures of one turn at a time and of 16."""
    found: list[Row] = []
    session = (await system.sessions(1))[0]
    answer = await system.call(CHAT, chat(session), turn_pb2.Turn)
    if answer.state != turn_pb2.TURN_STATE_COMPLETED:
        raise RuntimeError(f"the turn did not complete: {answer}")
    same = answer.SerializeToString()
    async with child("echo") as bare, opened(bare.address) as channel:
        echo = raw(channel, ECHO)
        for at_once, count in ((1, 40), (16, 160)):

            async def ours(at_once: int = at_once, count: int = count) -> Sample:
                return await _turns(system, plan.count(count), at_once)

            async def plain(at_once: int = at_once, count: int = count) -> Sample:
                return await closed_loop(lambda _: echo(same), plan.count(count) * 5, at_once)

            sides = {"ours": Side(ours, system.pids), "bare": Side(plain, [bare.pid])}
            took = await compare(sides, plan.rounds)
            figure = f"{at_once} at once"
            found += rows("stored offline turn", figure, took["ours"], took["bare"], _BESIDE)
    return [*found, *await _shares(system, plan)]


async def _turns(system: System, count: int, at_once: int) -> Sample:
    """Run turns in sessions of their own, made before the clock runs."""
    sessions = await system.sessions(at_once)
    send = raw(system.channel, CHAT, await system.metadata())
    return await closed_loop(
        lambda place: send(chat(sessions[place]).SerializeToString()), count, at_once
    )


async def _shares(system: System, plan: Plan) -> list[Row]:
    """Return which part spends how much on a turn."""

    parts = sorted({each.name for each in system.mesh.status.parts})
    pids = {part: system.pids(part) for part in parts}
    before = {part: cpu_seconds(pids[part]) for part in parts}
    count = plan.count(160)
    await _turns(system, count, 16)
    return [
        Row(
            "stored offline turn",
            f"16 at once, {part}",
            "CPU µs each",
            (cpu_seconds(pids[part]) - before[part]) / count * 1e6,
        )
        for part in parts
    ]
