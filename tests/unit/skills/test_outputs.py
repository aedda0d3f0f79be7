"""What tools tell: how it is cut, and where pieces lie."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gathering_mesh.errors import Unavailable
from gathering_skills.models_outputs import PIECE_BYTES, Piece, Place, border, is_inside
from gathering_skills.ports import OutputRows
from gathering_skills.telling import CUT_LINE, MOST_BYTES, Telling
from gathering_skills.waiting import Wakeups

texts = st.text(alphabet="aö€😀\x00\n", max_size=60)


class Rows:
    """Keeps pieces by their place; those that are there are left."""

    def __init__(self) -> None:
        self.pieces: dict[int, Piece] = {}
        self.is_away = False

    async def append(self, tx: Any, execution_id: str, attempt: int, new: Sequence[Piece]) -> None:
        """Add pieces."""
        if self.is_away:
            raise Unavailable("away")
        for piece in new:
            self.pieces.setdefault(piece.offset, piece)


class _Execution:
    id, attempt_count = "exe_1", 1


def telling(rows: Rows) -> Telling:
    return Telling(cast("OutputRows", rows), Wakeups(), cast("Any", _Execution()))


def together(rows: Rows) -> bytes:
    """Return what the pieces make; each begins where the last ended."""
    end = 0
    for offset, piece in sorted(rows.pieces.items()):
        assert offset == end
        assert 0 < len(piece.content) <= PIECE_BYTES
        piece.content.decode()  # no character is cut
        end += len(piece.content)
    return b"".join(piece.content for _, piece in sorted(rows.pieces.items()))


attempts = st.sampled_from(["none", "written or not", "in vain"])


@given(st.lists(st.tuples(texts, st.integers(1, 1500), attempts), max_size=8))
async def test_pieces_make_the_whole_whenever_they_are_written(
    told: list[tuple[str, int, str]],
) -> None:
    rows = Rows()
    one = telling(rows)
    for text, times, attempt in told:
        one.add(text * times)
        rows.is_away = attempt == "in vain"
        if attempt != "none":  # the next writes it again: nobody knows whether this was committed
            with suppress(Unavailable):
                await one.rest(cast("Any", None))
    rows.is_away = False
    await one.rest(cast("Any", None))
    assert together(rows).decode() == "".join(text * times for text, times, _ in told)
    assert one.has_told == bool(rows.pieces)
    assert not any(piece.cut for piece in rows.pieces.values())


@pytest.mark.parametrize(("before", "character"), [(0, "a"), (1, "ö"), (2, "€"), (3, "😀")])
async def test_bound_is_kept_between_characters_and_told_once(before: int, character: str) -> None:
    rows = Rows()
    one = telling(rows)
    one.add("x" * before)
    for text in (character * (MOST_BYTES // 4), character * MOST_BYTES, "more"):
        one.add(text)
        await one.rest(cast("Any", None))
    whole = together(rows)
    text = whole.decode()
    assert text.endswith(character + CUT_LINE)
    assert MOST_BYTES - 4 < len(whole) - len(CUT_LINE) <= MOST_BYTES
    assert [piece.cut for _, piece in sorted(rows.pieces.items())].index(True) == len(
        rows.pieces
    ) - 1


@given(texts, st.integers(0, 300))
def test_border_is_the_nearest_one_before(text: str, end: int) -> None:
    content = text.encode()
    found = border(content, min(end, len(content)))
    assert min(end, len(content)) - 4 < found <= end
    assert not is_inside(content[found:])
    content[:found].decode()


def test_place_of_an_attempt_that_is_over_is_the_beginning_of_the_next() -> None:
    assert Place(1, 70).in_attempt(2) == Place(2, 0)
    assert Place(2, 70).in_attempt(2) == Place(2, 70)
    assert Place(0, 70).in_attempt(2) == Place(2, 70)


async def test_lone_surrogates_are_told_as_something() -> None:
    rows = Rows()
    one = telling(rows)
    one.add("a\udcffb")
    await one.rest(cast("Any", None))
    assert together(rows) == b"a?b"
