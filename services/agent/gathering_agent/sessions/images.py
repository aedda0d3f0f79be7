"""Pictures that come in: what they are is read from their bytes, and bounded.

Providers refuse what ends too early, and the session's every later request with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from gathering_agent.errors import BadImage
from gathering_agent.sessions.models_images import MOST_IMAGE_BYTES, MOST_IMAGES, MOST_PIXELS, Image

Size = tuple[int, int]
_SOFS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # JPEG's frames; not its tables
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # JPEG's markers without a length
_SCAN = 0xDA  # JPEG's marker of the picture's data
_MOST_SEGMENTS = 1000  # before a JPEG's data, bytes that fill included; cameras write some dozens
_PNG_END, _JPEG_END = b"IEND\xae\x42\x60\x82", b"\xff\xd9"
_GIF_PICTURE, _GIF_EXTENSION, _GIF_END, _HAS_COLOURS = 0x2C, 0x21, 0x3B, 0x80
# A GIF's data comes in parts of 255 bytes but for the last of a picture; who writes all of them
# tiny does so to have them counted for long.
_MOST_PARTS, _USUAL_PART = 10_000, 32


def pictures(given: Sequence[bytes], path: str = "images") -> tuple[Image, ...]:
    """Return what was sent as images; BadImage, which names the field."""
    together = sum(map(len, given))
    if len(given) > MOST_IMAGES:
        raise _bad(path, f"must have at most {MOST_IMAGES} items")
    if together > MOST_IMAGE_BYTES:
        raise _bad(path, f"must have at most {MOST_IMAGE_BYTES} bytes together, has {together}")
    return tuple(_picture(data, f"{path}[{place}].data") for place, data in enumerate(given))


def problem_of(data: bytes) -> str:
    """Say what is wrong with a picture; empty: nothing."""
    try:
        _read(data)
    except ValueError as error:
        return str(error)
    return ""


def _bad(path: str, problem: str) -> BadImage:
    return BadImage(f"{path} {problem}", fields={path: problem})


def _picture(data: bytes, path: str) -> Image:
    try:
        return _read(data)
    except ValueError as error:
        raise _bad(path, str(error)) from error


def _read(data: bytes) -> Image:
    for media_type, begins, size in _FORMATS:
        if begins(data):
            try:
                width, height = size(data)
            except (IndexError, StopIteration) as error:
                raise ValueError(
                    f"is a broken {media_type}, or only the beginning of one"
                ) from error
            if not (0 < width <= MOST_PIXELS and 0 < height <= MOST_PIXELS):
                raise ValueError(
                    f"must have 1 to {MOST_PIXELS} pixels a side, has {width}x{height}"
                )
            return Image(media_type, width, height, len(data), data)
    raise ValueError("is no PNG, JPEG, GIF or WebP")


def _number(data: bytes, begin: int, size: int, *, little: bool = False) -> int:
    if begin + size > len(data):
        raise IndexError
    return int.from_bytes(data[begin : begin + size], "little" if little else "big")


def _png(data: bytes) -> Size:
    if data[12:16] != b"IHDR" or _PNG_END not in data:
        raise IndexError
    return _number(data, 16, 4), _number(data, 20, 4)


def _gif(data: bytes) -> Size:
    """Its blocks are followed to its end; what stands behind that does not count."""
    parts = iter(range(_MOST_PARTS + len(data) // _USUAL_PART))
    place, shown = _behind_colours(data, 10, 13), False
    while (kind := _number(data, place, 1)) != _GIF_END:
        if kind == _GIF_PICTURE:
            shown, place = True, _behind_colours(data, place + 9, place + 11)
        elif kind == _GIF_EXTENSION:
            place += 2
        else:
            raise IndexError
        while size := _number(data, place, 1):
            next(parts)
            place += size + 1
        next(parts)
        place += 1
    if not shown:
        raise IndexError
    return _number(data, 6, 2, little=True), _number(data, 8, 2, little=True)


def _behind_colours(data: bytes, flags: int, place: int) -> int:
    """Return where a GIF goes on behind a table of colours, if the flags say that there is one."""
    given = _number(data, flags, 1)
    return place + (3 << (given & 7) + 1 if given & _HAS_COLOURS else 0)


def _jpeg(data: bytes) -> Size:
    """Its end is looked for behind its data's beginning: previews before that have ends as well."""
    segments = _segments(data)
    frame = next(begin for marker, begin in segments if marker in _SOFS)
    scan = next(begin for marker, begin in segments if marker == _SCAN)
    if data.find(_JPEG_END, scan) < 0:
        raise IndexError
    return _number(data, frame + 5, 2), _number(data, frame + 3, 2)


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the markers up to the picture's data, and where their segments begin."""
    place = 2
    for _ in range(_MOST_SEGMENTS):
        if place >= len(data):
            return
        if data[place] != 0xFF:  # noqa: PLR2004 (what each marker begins with)
            raise IndexError
        marker = _number(data, place + 1, 1)
        place += 1 if marker == 0xFF else 2  # noqa: PLR2004 (a byte that fills)
        if marker == 0xFF or marker in _BARE:  # noqa: PLR2004
            continue
        yield marker, place
        place += max(2, _number(data, place, 2))
    raise IndexError


def _webp(data: bytes) -> Size:
    kind = data[12:16]
    if _number(data, 4, 4, little=True) + 8 > len(data):
        raise IndexError
    if kind == b"VP8X":
        return _number(data, 24, 3, little=True) + 1, _number(data, 27, 3, little=True) + 1
    if kind == b"VP8L" and data[20:21] == b"\x2f":
        bits = _number(data, 21, 4, little=True)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        return _number(data, 26, 2, little=True) & 0x3FFF, _number(
            data, 28, 2, little=True
        ) & 0x3FFF
    raise IndexError


_FORMATS: tuple[tuple[str, Callable[[bytes], bool], Callable[[bytes], Size]], ...] = (
    ("image/png", lambda data: data.startswith(b"\x89PNG\r\n\x1a\n"), _png),
    ("image/jpeg", lambda data: data.startswith(b"\xff\xd8\xff"), _jpeg),
    ("image/gif", lambda data: data[:6] in (b"GIF87a", b"GIF89a"), _gif),
    ("image/webp", lambda data: data[:4] == b"RIFF" and data[8:12] == b"WEBP", _webp),
)
