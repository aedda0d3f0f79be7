"""Encryption of what is stored secretly: each secret by a key of its own, that by a master key.

AES-256-GCM; what a secret is of (tenant, provider) is authenticated with it, so that a row that was
moved to another place opens nothing.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gathering_agent.providers.models_keys import Sealed

_BYTES = 32
_NONCE = 12
_ID_DIGITS = 16


class Unreadable(Exception):
    """No master key that is known opens it, or it is not what it says to be."""


class Sealer:
    """Seals with the first master key, and opens with any."""

    def __init__(self, masters: Sequence[bytes]) -> None:
        if not masters or any(len(master) != _BYTES for master in masters):
            raise ValueError(f"a master key has {_BYTES} bytes")
        self._masters = {_id_of(master): AESGCM(master) for master in masters}
        self.newest = _id_of(masters[0])

    def seal(self, secret: str, of: Sequence[str]) -> Sealed:
        """Encrypt a secret that is of a tenant and a provider."""
        own = AESGCM.generate_key(_BYTES * 8)
        about = _about(of)
        content = _encrypted(AESGCM(own), secret.encode(), about)
        return Sealed(self.newest, _encrypted(self._masters[self.newest], own, about), content)

    def open(self, sealed: Sealed, of: Sequence[str]) -> str:
        """Return a secret; Unreadable."""
        about = _about(of)
        own = self._own_key(sealed, about)
        try:
            return _decrypted(AESGCM(own), sealed.content, about).decode()
        except (InvalidTag, ValueError) as error:
            raise Unreadable("the content does not fit its key") from error

    def renewed(self, sealed: Sealed, of: Sequence[str]) -> Sealed:
        """Return what is sealed by an older master key as sealed by the newest; Unreadable."""
        about = _about(of)
        own = self._own_key(sealed, about)
        wrapped = _encrypted(self._masters[self.newest], own, about)
        return Sealed(self.newest, wrapped, sealed.content)

    def _own_key(self, sealed: Sealed, about: bytes) -> bytes:
        master = self._masters.get(sealed.master)
        if master is None:
            raise Unreadable(f"the master key {sealed.master} is not known")
        try:
            return _decrypted(master, sealed.wrapped, about)
        except (InvalidTag, ValueError) as error:
            raise Unreadable("it was sealed for something else") from error


def read_sealer(newest: Path | None, older: Sequence[Path]) -> Sealer | None:
    """Return the sealer with the keys of files, each 32 bytes in base64; None without a file."""
    if newest is None:
        return None
    return Sealer([_read(path) for path in (newest, *older)])


def _read(path: Path) -> bytes:
    try:
        return base64.b64decode(path.read_bytes().strip(), validate=True)
    except ValueError as error:
        raise ValueError(f"{path} is not base64") from error


def _id_of(master: bytes) -> str:
    return hashlib.sha256(b"gathering master key" + master).hexdigest()[:_ID_DIGITS]


def _about(of: Sequence[str]) -> bytes:
    return "\0".join(("gathering provider key", *of)).encode()


def _encrypted(cipher: AESGCM, plain: bytes, about: bytes) -> bytes:
    nonce = os.urandom(_NONCE)
    return nonce + cipher.encrypt(nonce, plain, about)


def _decrypted(cipher: AESGCM, content: bytes, about: bytes) -> bytes:
    return cipher.decrypt(content[:_NONCE], content[_NONCE:], about)
