"""Read files whole or in part, hash them, tell text from binary. Blocks: call it in a thread."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator

CHUNK = 1024 * 1024
LARGEST_FILE = 64 * CHUNK  # bytes of a file that is read or hashed as a whole
_SNIFFED = 8192

Checkpoint = Callable[[], None]


def chunks(descriptor: int, checkpoint: Checkpoint) -> Iterator[bytes]:
    """Yield a file from its beginning; `checkpoint` may raise between two pieces."""
    offset = 0
    while data := os.pread(descriptor, CHUNK, offset):
        checkpoint()
        offset += len(data)
        yield data


def sha256_of(descriptor: int, checkpoint: Checkpoint) -> str:
    """Return the hash of a file in hexadecimal."""
    digest = hashlib.sha256()
    for data in chunks(descriptor, checkpoint):
        digest.update(data)
    return digest.hexdigest()


def looks_binary(data: bytes) -> bool:
    """Tell by its beginning whether a file is no text."""
    return b"\0" in data[:_SNIFFED]


def read_up_to(descriptor: int, limit: int) -> bytes:
    """Return the first bytes of a file, at most so many."""
    found = bytearray()
    while len(found) < limit:
        data = os.pread(descriptor, min(CHUNK, limit - len(found)), len(found))
        if not data:
            break
        found += data
    return bytes(found)
