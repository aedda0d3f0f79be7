"""Compose the gateway; the one place that knows which parts it is made of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from gathering.events.v1 import event_log_service_pb2, event_pb2
from gathering.gateway.v1 import (
    audit_service_pb2,
    auth_service_pb2,
    event_service_pb2,
    invitation_service_pb2,
    user_service_pb2,
)
from gathering_gateway.accounts import Delegations, Keys, People
from gathering_gateway.audit import Audit
from gathering_gateway.client_event_log import FollowedLog, tail_of_peer
from gathering_gateway.client_own_log import OwnLog
from gathering_gateway.convert_audit import TYPES, entry
from gathering_gateway.convert_contract import descriptor_set, read_contract
from gathering_gateway.feed import Feed
from gathering_gateway.invitations import Inviting
from gathering_gateway.logins import Door, Limits
from gathering_gateway.membership import Membership
from gathering_gateway.models import PasswordCost
from gathering_gateway.openapi.convert_document import document
from gathering_gateway.provider_keys import KeyFolder
from gathering_gateway.provider_passwords import Argon2Passwords
from gathering_gateway.servicer_audit import AuditServicer
from gathering_gateway.servicer_auth import AuthServicer
from gathering_gateway.servicer_events import EventServicer
from gathering_gateway.servicer_http import HttpSide, http_app, serving, to_json
from gathering_gateway.servicer_users import InvitationServicer, UserServicer
from gathering_gateway.settings import GatewaySettings
from gathering_gateway.store import DirectoryStore, UserStore
from gathering_gateway.store_audit import AuditStore
from gathering_gateway.store_grants import DELEGATION, ApiKeyStore, DelegationStore
from gathering_gateway.store_invitations import InvitationStore
from gathering_gateway.store_logins import LoginStore
from gathering_gateway.store_members import MemberStore
from gathering_gateway.tokens import Issuer
from gathering_gateway.websocket.client_services import Services
from gathering_gateway.websocket.servicer import Door as WebSocketDoor
from gathering_mesh import migration
from gathering_mesh.consumer import Consumer, ConsumerSettings, EventHandler, EventsHandler
from gathering_mesh.eventlog import EventLog, EventLogServicer, EventLogSettings
from gathering_mesh.postgres import Database, DatabaseSettings, Transaction
from gathering_mesh.server import GrpcServer
from gathering_mesh.wiring import Mesh, SettingsError, open_mesh
from gathering_mesh.work import WorkLoop

_ENTERED_AT_ONCE = 100  # events that the audit enters in one transaction
_GATHERED_SECONDS = 0.2  # that an event waits for others to be entered with
_KEY_MARGIN = 60.0  # seconds that a key is published beyond the end of its last token


@dataclass(frozen=True, slots=True)
class App:
    """A composed gateway."""

    server: GrpcServer
    http: HttpSide
    log: EventLog
    sources: Sequence[FollowedLog]
    audit: Sequence[Consumer]
    work: WorkLoop

    async def run(self) -> None:
        """Keep the log, follow the others' and enter them in the audit, do the work, serve HTTP."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.log.run())
            tasks.create_task(self.http.run())
            for source in self.sources:
                tasks.create_task(source.run())
            for consumer in self.audit:
                tasks.create_task(consumer.run())
            tasks.create_task(self.work.run())


@asynccontextmanager
async def open_app(settings: GatewaySettings) -> AsyncIterator[App]:
    """Yield the gateway, its HTTP side serving already: others need its keys to start."""
    keys = key_folder(settings)
    await keys.prepare()
    async with (
        open_mesh(settings, users=keys.verifying()) as mesh,
        Database.open(database_settings(settings), schema="gateway") as db,
    ):
        await migration.check(db)
        log = EventLog(db, "gateway", settings=EventLogSettings.of(settings))
        sources = _sources(settings, mesh, log)
        feed = Feed({s.name: s for s in sources}, settings.checkpoint_seconds)
        passwords = argon2_passwords(settings)
        add = mesh.server.add
        auth = _auth(settings, db, keys, passwords)
        add(_service(auth_service_pb2, "AuthService"), auth)
        membership = Membership(
            UserStore(db), MemberStore(db), LoginStore(db), passwords, auth.door
        )
        add(_service(user_service_pb2, "UserService"), UserServicer(membership))
        inviting = Inviting(DirectoryStore(db), UserStore(db), InvitationStore(db), passwords)
        add(_service(invitation_service_pb2, "InvitationService"), InvitationServicer(inviting))
        entries = AuditStore(db, timedelta(days=settings.audit_retention_days))
        add(_service(audit_service_pb2, "AuditService"), AuditServicer(Audit(entries)))
        add(_service(event_service_pb2, "EventService"), EventServicer(feed))
        add(_service(event_log_service_pb2, "EventLogService"), EventLogServicer(log))
        services = Services(mesh.channels, mesh.server.stream)
        door = WebSocketDoor(
            mesh.authenticator, services.answers, mesh.server.closing, settings.websocket
        )
        mesh.server.speak_for(_elsewhere(settings, mesh), read_contract().pool)
        application = http_app(
            keys.published, to_json(document()), descriptor_set(), mesh.server, door
        )
        try:
            frame_bytes = settings.websocket.frame_bytes
            async with serving(
                application, settings.http_host, settings.http_port, frame_bytes
            ) as http:
                audit = _audit(settings, mesh, db, log, entries)
                work = WorkLoop(db, {DELEGATION: _delegations(settings, db).expire})
                yield App(mesh.server, http, log, sources, audit, work)
        finally:
            passwords.close()


def key_folder(settings: GatewaySettings) -> KeyFolder:
    """Return the keys that sign users' tokens."""
    if settings.keys_dir is None:
        raise SettingsError("GATHERING_KEYS_DIR is not set")
    return KeyFolder(settings.keys_dir, settings.access_token_seconds + _KEY_MARGIN)


def database_settings(settings: GatewaySettings) -> DatabaseSettings:
    """Return where the database is."""
    return DatabaseSettings(url=settings.database_url, system_url=settings.system_database_url)


def argon2_passwords(settings: GatewaySettings) -> Argon2Passwords:
    """Return what hashes passwords."""
    return Argon2Passwords(
        PasswordCost(
            passes=settings.password_passes,
            memory_kib=settings.password_memory_kib,
            threads=settings.password_threads,
        )
    )


def _auth(
    settings: GatewaySettings, db: Database, keys: KeyFolder, passwords: Argon2Passwords
) -> AuthServicer:
    users, api_keys = UserStore(db), ApiKeyStore(db)
    issuer = Issuer(keys, settings.access_token_seconds)
    limits = Limits(
        attempts=settings.login_attempts,
        window=timedelta(seconds=settings.login_window_seconds),
        refresh_life=timedelta(seconds=settings.refresh_token_seconds),
    )
    door = Door(DirectoryStore(db), users, LoginStore(db), api_keys, passwords, issuer, limits)
    return AuthServicer(
        door,
        People(users, passwords),
        Keys(api_keys),
        Delegations(_delegations(settings, db), users, issuer),
    )


def _delegations(settings: GatewaySettings, db: Database) -> DelegationStore:
    return DelegationStore(db, timedelta(seconds=settings.delegation_idle_seconds))


def _entering(entries: AuditStore) -> EventsHandler:
    async def enter(tx: Transaction, events: Sequence[event_pb2.Event]) -> None:
        await entries.enter(tx, map(entry, events))

    return enter


def _one(handler: EventsHandler) -> EventHandler:
    return lambda tx, event: handler(tx, [event])


def _audit(
    settings: GatewaySettings, mesh: Mesh, db: Database, log: EventLog, entries: AuditStore
) -> list[Consumer]:
    """Return the consumers that enter what the logs tell."""
    channels = {
        name: mesh.channels.to(name) for name in settings.sources if name in settings.peers
    } | {settings.service: OwnLog.channel(log)}
    return [
        Consumer(
            db, "audit", source, channel, _one(_entering(entries)), TYPES,
            together=_entering(entries),
            outgoing=mesh.channels.outgoing_as_actor,
            settings=ConsumerSettings(
                at_once=_ENTERED_AT_ONCE, gather=_GATHERED_SECONDS, durable=False
            ),
        )
        for source, channel in channels.items()
    ]  # fmt: skip


def _sources(settings: GatewaySettings, mesh: Mesh, log: EventLog) -> Sequence[FollowedLog]:
    size = settings.ring_entries
    peers = [
        FollowedLog(name, tail_of_peer(mesh.channels, name), size)
        for name in settings.sources
        if name in settings.peers
    ]
    return [*peers, FollowedLog("gateway", log.tail, size)]


def _elsewhere(settings: GatewaySettings, mesh: Mesh) -> dict[str, Callable[[], grpc.aio.Channel]]:
    """Return the channels to services that users reach and others serve, by full name."""
    return {
        rpc.service: partial(mesh.channels.to, rpc.part)
        for rpc in read_contract().rpcs()
        if rpc.routes and rpc.part != settings.service and rpc.part in settings.peers
    }


def _service(module: object, name: str) -> ServiceDescriptor:
    found = module.DESCRIPTOR.services_by_name[name]  # type: ignore[attr-defined]
    assert isinstance(found, ServiceDescriptor)  # noqa: S101 (for the type checker)
    return found
