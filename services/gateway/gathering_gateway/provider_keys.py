"""The signing keys of users' tokens: files in a folder, so that rotation needs nothing but files.

`<UTC time from which it signs>-<key id>.pem`. The newest whose time has come signs. A key is
published before it signs, so that caches of the JWKS document know it, and after, until its last
token ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gathering_mesh.keys import KeySet, RefreshingKeys, SigningKey, read_jwks

_log = logging.getLogger(__name__)
_TIME = "%Y%m%dT%H%M%S.%fZ"  # two keys of one second keep their order
_REREAD = 2.0  # seconds


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key and the time (seconds since the epoch) from which it signs."""

    key: SigningKey
    signs_from: float
    path: Path


class KeyFolderError(Exception):
    """The folder has no key that signs, or one that cannot be read."""


class KeyFolder:
    """Reads the keys, and makes them for operators."""

    def __init__(self, folder: Path, retained: float) -> None:
        """Remember the folder; `retained`: how long (seconds) a key outlives its last signature."""
        self._folder = folder
        self._retained = retained
        self._keys: Sequence[StoredKey] = ()
        self._read_at = float("-inf")

    async def signing(self) -> SigningKey:
        """Return the key that signs now. KeyFolderError if there is none."""
        return _signing(await self._current(), time.time()).key

    async def published(self) -> list[dict[str, str]]:
        """Return the public keys of all tokens that may be valid, and of those to come."""
        return [stored.key.public_jwk for stored in await self._current()]

    def verifying(self) -> RefreshingKeys:
        """Return the same keys for verifying our own tokens."""

        async def load() -> KeySet:
            return read_jwks({"keys": await self.published()})

        return RefreshingKeys(load, refresh_seconds=_REREAD, minimum_interval=_REREAD)

    async def prepare(self) -> None:
        """Make the first key where there is none yet. KeyFolderError where that is impossible."""
        await asyncio.to_thread(self._prepare)

    async def rotate(self, delay: float, *, drop_others: bool = False) -> StoredKey:
        """Add a key that signs after a delay (seconds), and remove those that are of no more use.

        `drop_others` removes all the others at once: their tokens are then refused.
        """
        return await asyncio.to_thread(self._rotate, delay, drop_others)

    async def _current(self) -> Sequence[StoredKey]:
        if time.monotonic() - self._read_at >= _REREAD:
            try:
                self._keys = await asyncio.to_thread(self._read)
            except (OSError, KeyFolderError):
                if not self._keys:
                    raise
                _log.warning("keys_not_read", exc_info=True)  # those that are known go on
            self._read_at = time.monotonic()
        return _live(self._keys, time.time(), self._retained)

    def _read(self) -> list[StoredKey]:
        return sorted(map(_stored, self._folder.glob("*.pem")), key=lambda k: k.signs_from)

    def _prepare(self) -> None:
        if not self._folder.is_dir() or not any(self._folder.glob("*.pem")):
            try:
                with self._locked():
                    if not any(self._folder.glob("*.pem")):
                        self._write(time.time())
            except OSError as error:
                raise KeyFolderError(f"no signing key can be made in {self._folder}") from error
        _signing(self._read(), time.time())

    def _rotate(self, delay: float, drop_others: bool) -> StoredKey:
        with self._locked():
            made = self._write(time.time() + delay)
            found = self._read()
            live = [made] if drop_others else _live(found, time.time(), self._retained)
            kept = {stored.path for stored in live}
            for stored in found:
                if stored.path not in kept:
                    stored.path.unlink()
        return made

    def _write(self, signs_from: float) -> StoredKey:
        key = SigningKey.generate()
        moment = datetime.fromtimestamp(signs_from, UTC).strftime(_TIME)
        path = self._folder / f"{moment}-{key.kid}.pem"
        new = path.with_suffix(".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key.pem())
            file.flush()
            os.fsync(file.fileno())
        new.rename(path)
        return _stored(path)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _stored(path: Path) -> StoredKey:
    moment = path.name.partition("-")[0]
    try:
        signs_from = datetime.strptime(moment, _TIME).replace(tzinfo=UTC).timestamp()
        return StoredKey(SigningKey.from_pem(path.read_bytes()), signs_from, path)
    except ValueError as error:
        raise KeyFolderError(f"{path.name} is no <time>-<key id>.pem with a P-256 key") from error


def _signing(keys: Sequence[StoredKey], now: float) -> StoredKey:
    """Return the newest key whose time has come, or the first where the clock was set back."""
    if not keys:
        raise KeyFolderError("the folder has no key")
    begun = [stored for stored in keys if stored.signs_from <= now]
    return begun[-1] if begun else keys[0]


def _live(keys: Sequence[StoredKey], now: float, retained: float) -> list[StoredKey]:
    """Leave out keys whose successor has signed for so long that none of their tokens is valid."""
    ends = [stored.signs_from for stored in keys[1:]]
    return [
        stored
        for stored, end in zip(keys, [*ends, float("inf")], strict=True)
        if now < end + retained
    ]
