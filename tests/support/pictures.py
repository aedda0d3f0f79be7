"""Pictures of one colour, by hand."""

from __future__ import annotations

import struct
import zlib


def png(width: int, height: int, more: int = 0) -> bytes:
    """Return a PNG, with so many bytes more of a comment."""
    rows = (b"\0" + b"\0\0\0" * width) * min(height, 10)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + (_chunk(b"tEXt", b"x" * more) if more else b"")
        + _chunk(b"IDAT", zlib.compress(rows))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def gif(width: int, height: int) -> bytes:
    """Return a GIF of one pixel that says how large it is."""
    picture = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0) + picture + b";"


def jpeg(width: int, height: int) -> bytes:
    """Return a JPEG's parts, with a table, a preview's end and a comment before the frame."""
    segments = [
        (0xE0, b"JFIF\0" + b"\0" * 9),
        (0xE1, b"preview \xff\xd9"),
        (0xC4, b"\0" * 20),
        (0xFE, b"\xff\xc0 no frame"),
        (0xC2, struct.pack(">BHHB", 8, height, width, 3) + b"\0" * 9),
        (0xDA, b"\0" * 10),
    ]
    parts = b"".join(
        b"\xff" * (1 + n) + bytes([marker]) + struct.pack(">H", len(data) + 2) + data
        for n, (marker, data) in enumerate(segments)
    )
    return b"\xff\xd8" + parts + b"data" * 9 + b"\xff\xd9"


def webp(width: int, height: int, kind: bytes = b"VP8 ") -> bytes:
    """Return the beginning of a WebP: lossy, lossless (`VP8L`) or extended (`VP8X`)."""
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    data = {
        b"VP8 ": b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height),
        b"VP8L": b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14),
        b"VP8X": b"\0\0\0\0" + sides,
    }[kind]
    chunk = kind + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk
