"""The merged feed over real logs: its own and that of a peer behind a real port."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gathering.events.v1.event_pb2 import Event
from gathering.gateway.v1 import auth_pb2
from gathering.gateway.v1 import auth_service_pb2 as auth
from gathering.gateway.v1 import event_service_pb2 as pb
from gathering_gateway import cursors
from gathering_gateway.models_feed import Place
from gathering_mesh import log_rows
from gathering_mesh.client import peer
from gathering_mesh.errors import DomainError, InvalidArgument, Unavailable
from tests.support.edge import free_port
from tests.support.fixtures import NewDatabase
from tests.support.gateway import PASSWORD, Gateway, bearer, running_gateway
from tests.support.peer_log import PeerLog, running_peer
from tests.support.postgres import TestDatabase
from tests.support.probe import until

PEER = ["probe"]


@dataclass
class Mesh:
    """A gateway that merges its own log with a peer's."""

    gateway: Gateway
    peer: PeerLog
    admin: auth.Tokens

    @property
    def tenant(self) -> str:
        return self.admin.user.tenant_id

    def subscribe(self, cursor: str = "", tokens: Any = None, **wanted: Any) -> Any:
        request = pb.SubscribeRequest(filter=pb.EventFilter(**wanted), cursor=cursor)
        return self.gateway.events.Subscribe(request, metadata=bearer(tokens or self.admin))

    async def page(self, cursor: str = "", size: int = 0, **wanted: Any) -> pb.ListEventsResponse:
        request = pb.ListEventsRequest(
            filter=pb.EventFilter(**wanted), cursor=cursor, page_size=size
        )
        call = self.gateway.events.ListEvents(request, metadata=bearer(self.admin), timeout=20)
        with peer("gateway"):
            answer: pb.ListEventsResponse = await call
        return answer


@asynccontextmanager
async def meshed(database: TestDatabase, folder: Path, **settings: Any) -> AsyncIterator[Mesh]:
    """Run a gateway and a peer; the peer knows the gateway's key once that has written it."""
    port = free_port()
    async with AsyncExitStack() as stack:
        given = {"sources": ("probe",), "peers": {"probe": f"127.0.0.1:{port}"}, **settings}
        gateway = await stack.enter_async_context(running_gateway(database, folder, **given))
        log = await stack.enter_async_context(running_peer(database, folder, port))
        yield Mesh(gateway, log, await gateway.admin())


@pytest.fixture
async def mesh(new_database: NewDatabase, tmp_path: Path) -> AsyncIterator[Mesh]:
    async with meshed(await new_database("gateway", "probe"), tmp_path) as running:
        yield running


async def read_until(stream: Any, done: Any, seconds: float = 20) -> list[pb.SubscribeResponse]:
    """Return the frames up to the first of which `done` is true."""
    frames: list[pb.SubscribeResponse] = []
    async with asyncio.timeout(seconds):
        while frame := await stream.read():
            frames.append(frame)
            if done(frame):
                return frames
    raise AssertionError(f"the stream ended before: {frames[-3:]}")


def kind(name: str) -> Any:
    return lambda frame: frame.WhichOneof("frame") == name


def about(name: str) -> Any:
    return lambda frame: frame.event.event.aggregate_id == name


def ids(frames: list[pb.SubscribeResponse]) -> list[str]:
    return [f.event.event.aggregate_id for f in frames if f.HasField("event")]


async def standing(stream: Any) -> str:
    """Wait until a subscription stands; return its first cursor."""
    frame = await stream.read()
    assert frame.HasField("checkpoint")
    return str(frame.checkpoint.cursor)


async def reached(mesh: Mesh) -> None:
    """Wait until the gateway has reached the peer's log."""
    source = next(s for s in mesh.gateway.app.sources if s.name == "probe")
    await until(lambda: source.head is not None)


async def test_resumed_subscriber_gets_each_event_once_and_in_order_while_many_write(
    mesh: Mesh,
) -> None:
    total, writers = 600, 4

    async def write(writer: int) -> None:
        for n in range(total // writers):
            await mesh.peer.write(mesh.tenant, f"mem_{writer}_{n}")
            await mesh.peer.write("ten_other", f"canary_{writer}_{n}")

    cursor, dice = "start", random.Random(7)  # noqa: S311 (repeatable, not secret)
    got: list[Event] = []
    async with asyncio.TaskGroup() as tasks:
        for writer in range(writers):
            tasks.create_task(write(writer))
        async with asyncio.timeout(40):
            while len(got) < total:
                stream = mesh.subscribe(cursor, sources=PEER)
                for _ in range(dice.randint(1, 40)):
                    frame = await stream.read()
                    if frame.HasField("event"):
                        got.append(frame.event.event)
                        cursor = frame.event.cursor
                    elif frame.HasField("checkpoint") and dice.random() < 0.5:
                        cursor = frame.checkpoint.cursor
                    if len(got) == total:
                        break
                stream.cancel()
    positions = [event.position for event in got]
    assert positions == sorted(set(positions))
    assert {e.aggregate_id for e in got} == {
        f"mem_{w}_{n}" for w in range(writers) for n in range(total // writers)
    }


async def test_slow_subscriber_gets_everything_and_holds_up_nobody(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    database = await new_database("gateway", "probe")
    async with meshed(database, tmp_path, ring_entries=16) as mesh:
        slow = mesh.subscribe("start", sources=PEER)
        await standing(slow)
        quick = mesh.subscribe("start", sources=PEER)
        names = [f"mem_{n}" for n in range(5000)]
        for n in range(0, len(names), 250):
            await mesh.peer.write(mesh.tenant, *names[n : n + 250])
        assert ids(await read_until(quick, about(names[-1]))) == names
        assert ids(await read_until(slow, about(names[-1]))) == names


async def test_events_with_an_audience_reach_it_and_administrators_only(mesh: Mesh) -> None:
    email = "member@example.org"
    request = auth.CreateUserRequest(email=email, password=PASSWORD, role=auth_pb2.ROLE_MEMBER)
    user = await mesh.gateway.auth.CreateUser(request, metadata=bearer(mesh.admin))
    member = await mesh.gateway.log_in(email)
    await mesh.peer.write(mesh.tenant, "for_admin", audience=(mesh.admin.user.user_id,))
    await mesh.peer.write(mesh.tenant, "for_member", audience=(user.user_id,))
    await mesh.peer.write("ten_other", "canary")
    await mesh.peer.write("ten_other", "canary", audience=(user.user_id,))
    await mesh.peer.write(mesh.tenant, "for_all")
    seen = await read_until(mesh.subscribe("start", member, sources=PEER), about("for_all"))
    assert ids(seen) == ["for_member", "for_all"]
    seen = await read_until(mesh.subscribe("start", sources=PEER), about("for_all"))
    assert ids(seen) == ["for_admin", "for_member", "for_all"]


async def test_filters_narrow_by_type_subject_and_source(mesh: Mesh) -> None:
    await mesh.peer.write(mesh.tenant, "one", "two", "three")
    await mesh.gateway.log_in(mesh.admin.user.email)
    wanted = {"subject_ids": ["one", "three"], "types": ["memory_forgotten"]}
    seen = await read_until(mesh.subscribe("start", **wanted), about("three"))
    assert ids(seen) == ["one", "three"]
    stream = mesh.subscribe("start", sources=["gateway"], types=["user_logged_in"])
    seen = await read_until(stream, kind("event"))
    assert seen[-1].event.event.type == "user_logged_in"
    with pytest.raises(InvalidArgument) as caught, peer("gateway"):
        await mesh.subscribe(sources=["nowhere"]).read()
    assert "filter.sources" in caught.value.fields


async def test_subscriber_without_cursor_gets_what_comes_from_now_on(mesh: Mesh) -> None:
    await mesh.peer.write(mesh.tenant, "before")
    await reached(mesh)
    await read_until(mesh.subscribe("start"), about("before"))
    stream = mesh.subscribe()
    await standing(stream)
    await mesh.peer.write(mesh.tenant, "after")
    assert ids(await read_until(stream, about("after"))) == ["after"]


async def test_source_that_is_down_stops_no_other_and_loses_nothing_when_it_comes(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    database, port = await new_database("gateway", "probe"), free_port()
    settings = {"sources": ("probe",), "peers": {"probe": f"127.0.0.1:{port}"}}
    async with running_gateway(database, tmp_path, **settings) as gateway:
        admin = await gateway.admin()
        stream = gateway.events.Subscribe(pb.SubscribeRequest(), metadata=bearer(admin))
        cursor = await standing(stream)
        await gateway.log_in(admin.user.email)
        seen = await read_until(stream, kind("event"))
        assert seen[-1].event.event.source == "gateway"
        stream.cancel()
        async with running_peer(database, tmp_path, port) as log:
            await log.write(admin.user.tenant_id, "first", "second")
            request = pb.SubscribeRequest(cursor=cursor, filter=pb.EventFilter(sources=PEER))
            resumed = gateway.events.Subscribe(request, metadata=bearer(admin))
            assert ids(await read_until(resumed, about("second"))) == ["first", "second"]
        # It goes down and comes back, with the same subscription.
        async with running_peer(database, tmp_path, port) as log:
            await log.write(admin.user.tenant_id, "third")
            assert ids(await read_until(resumed, about("third"))) == ["third"]


async def test_new_history_of_a_source_is_told_as_a_gap(mesh: Mesh) -> None:
    await mesh.peer.write(mesh.tenant, "old")
    stream = mesh.subscribe("start", sources=PEER)
    seen = await read_until(stream, about("old"))
    async with mesh.peer.db.system() as tx:
        await log_rows.begin_epoch(tx)
    await mesh.peer.write(mesh.tenant, "new")
    after = await read_until(stream, about("new"))
    gaps = [f.gap for f in after if f.HasField("gap")]
    assert [(g.source, g.reason) for g in gaps] == [("probe", "epoch")]
    resumed = await read_until(mesh.subscribe(seen[-1].event.cursor, sources=PEER), about("new"))
    assert [f.WhichOneof("frame") for f in resumed if not f.HasField("checkpoint")] == [
        "gap", "event"
    ]  # fmt: skip


async def test_cursor_older_than_the_retention_gets_a_gap_and_start_does_not(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    database = await new_database("gateway", "probe")
    async with meshed(database, tmp_path, ring_entries=1) as mesh:
        await mesh.peer.write(mesh.tenant, "one", "two")
        seen = await read_until(mesh.subscribe("start", sources=PEER), about("two"))
        old = next(f.event.cursor for f in seen if f.HasField("event"))
    async with meshed(database, tmp_path, ring_entries=1) as mesh:
        async with mesh.peer.db.system() as tx:
            await log_rows.trim(tx, timedelta(seconds=-60))
        await mesh.peer.write(mesh.tenant, "three", "four")
        await read_until(mesh.subscribe("start", sources=PEER), about("four"))
        page = await mesh.page("start", sources=PEER)
        assert (len(page.gaps), len(page.events)) == (0, 2)
        page = await mesh.page(old, sources=PEER)
        assert [gap.reason for gap in page.gaps] == ["retention"]
        assert [f.event.aggregate_id for f in page.events] == ["three", "four"]


async def test_bad_cursors_are_refused_and_the_field_is_named(mesh: Mesh) -> None:
    foreign = cursors.encode({"nowhere": Place("e", 1)})
    negative = cursors.encode({"probe": Place("e", -1)})
    for cursor in ("x", "%%%", "e30", "bnVsbA", foreign, negative, "A" * 2048):
        for call in (mesh.subscribe(cursor).read(), mesh.page(cursor)):
            with pytest.raises(DomainError) as caught, peer("gateway"):
                await call
            assert caught.value.reason == "INVALID_CURSOR", cursor
            assert "cursor" in caught.value.fields


async def test_stream_ends_with_a_reconnect_frame_when_its_token_ends(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    database = await new_database("gateway", "probe")
    async with meshed(database, tmp_path, access_token_seconds=2) as mesh:
        stream = mesh.subscribe("start")
        frames = await read_until(stream, kind("reconnect"))
        assert frames[-1].reconnect.reason == "token_expired"
        assert not await stream.read(), "nothing follows"
        again = mesh.subscribe(
            frames[-1].reconnect.cursor, await mesh.gateway.log_in(mesh.admin.user.email)
        )
        seen = await read_until(again, kind("event"))
        assert len(ids(seen)) == 1, "only the new login"


async def test_stream_ends_with_a_reconnect_frame_when_the_server_drains(mesh: Mesh) -> None:
    stream = mesh.subscribe("start")
    await standing(stream)
    stopping = asyncio.create_task(mesh.gateway.app.server.stop(5))
    frames = await read_until(stream, kind("reconnect"))
    assert frames[-1].reconnect.reason == "draining"
    await stopping


async def test_idle_subscriber_gets_checkpoints(new_database: NewDatabase, tmp_path: Path) -> None:
    database = await new_database("gateway", "probe")
    async with meshed(database, tmp_path, checkpoint_seconds=0.1) as mesh:
        stream = mesh.subscribe(sources=PEER)
        async with asyncio.timeout(10):
            for _ in range(4):
                assert (await stream.read()).HasField("checkpoint")


async def test_pages_of_stored_events_give_each_once_to_the_end(mesh: Mesh) -> None:
    names = [f"mem_{n}" for n in range(23)]
    for name in names:
        await mesh.peer.write(mesh.tenant, name)
    await read_until(mesh.subscribe("start"), about(names[-1]))
    found: list[pb.EventFrame] = []
    cursor, end = "", False
    while not end:
        page = await mesh.page(cursor, 5)
        assert len(page.events) <= 5
        found.extend(page.events)
        cursor, end = page.next_cursor, page.end
    assert [f.event.aggregate_id for f in found if f.event.source == "probe"] == names
    assert len({f.event.id for f in found}) == len(found)
    assert {f.event.source for f in found} == {"probe", "gateway"}
    await mesh.peer.write(mesh.tenant, "later")
    assert ids(await read_until(mesh.subscribe(cursor), about("later"))) == ["later"]


async def test_page_says_unavailable_only_when_nothing_else_is_left(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    database = await new_database("gateway", "probe")
    settings = {"sources": ("probe",), "peers": {"probe": f"127.0.0.1:{free_port()}"}}
    async with running_gateway(database, tmp_path, **settings) as gateway:
        mesh = Mesh(gateway, None, await gateway.admin())  # type: ignore[arg-type]  # it is down
        await read_until(mesh.subscribe("start"), kind("event"))
        page = await mesh.page()
        assert page.events
        assert not page.end
        with pytest.raises(Unavailable):
            await mesh.page(page.next_cursor)
