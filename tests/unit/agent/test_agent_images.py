"""What pictures are is read from their bytes, and bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gathering_agent.context.showing import shown
from gathering_agent.errors import BadImage
from gathering_agent.models import Message, Role
from gathering_agent.providers.models_catalogue import Model
from gathering_agent.sessions.images import pictures, problem_of
from gathering_agent.sessions.models_images import Image
from tests.support.pictures import gif, jpeg, png, webp

SIDES = st.integers(1, 8000)


@given(SIDES, SIDES)
def test_format_and_size_are_read_from_the_bytes(width: int, height: int) -> None:
    webps = [webp(width, height, kind) for kind in (b"VP8 ", b"VP8L", b"VP8X")]
    sent = [png(width, height), jpeg(width, height), gif(width, height), *webps]
    found = pictures(sent)
    assert [one.media_type for one in found] == [
        "image/png", "image/jpeg", "image/gif", "image/webp", "image/webp", "image/webp",
    ]  # fmt: skip
    assert {(one.width, one.height) for one in found} == {(width, height)}
    assert [one.size for one in found] == [len(data) for data in sent]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is no PNG"),
        (b"<svg/>", "is no PNG"),
        (b"BM" + b"\0" * 60, "is no PNG"),
        (png(8001, 1), "1 to 8000 pixels a side, has 8001x1"),
        (gif(0, 5), "1 to 8000 pixels a side, has 0x5"),
        (png(1, 1)[:20], "broken image/png"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 60, "broken image/png"),
        (jpeg(1, 1)[:40], "broken image/jpeg"),
        (jpeg(1, 1)[:2] + b"\xff" * 2_000_000 + jpeg(1, 1)[2:], "broken image/jpeg"),
        (webp(1, 1)[:16] + b"\0" * 30, "broken image/webp"),
        (b"RIFF\0\0\0\0WAVE" + b"\0" * 30, "is no PNG"),
        (png(1, 1, 50)[:-9], "broken image/png, or only the beginning of one"),
        (jpeg(1, 1)[:-9], "broken image/jpeg"),
        (gif(1, 1)[:-1], "broken image/gif"),
        (b"RIFF\x63" + webp(1, 1)[5:], "broken image/webp"),
    ],
)
def test_what_is_no_picture_is_refused_with_its_field(data: bytes, problem: str) -> None:
    with pytest.raises(BadImage) as caught:
        pictures([png(1, 1), data])
    assert problem in caught.value.fields["images[1].data"]


@pytest.mark.parametrize("data", [png(1, 1), jpeg(1, 1), gif(1, 1), webp(1, 1)])
def test_what_is_behind_a_picture_does_no_harm(data: bytes) -> None:
    assert not problem_of(data)
    assert not problem_of(data + b"\0" * 9)


def test_what_cameras_append_does_no_harm() -> None:
    assert not problem_of(jpeg(1, 1) + b"SEFHe\0\0\0")


@given(st.sampled_from([png(3, 3), jpeg(3, 3), gif(3, 3), webp(3, 3)]), st.data())
def test_broken_pictures_are_refused_and_break_nothing(data: bytes, draw: st.DataObject) -> None:
    cut = draw.draw(st.integers(0, len(data)))
    rest = draw.draw(st.binary(max_size=40))
    problem_of(data[:cut] + rest)


def test_number_and_size_of_all_together_are_bounded() -> None:
    with pytest.raises(BadImage, match="at most 8 items"):
        pictures([gif(1, 1)] * 9)
    with pytest.raises(BadImage, match="at most 2500000 bytes together, has 2600"):
        pictures([png(1, 1, 1_300_000)] * 2)
    assert len(pictures([png(1, 1, 1_200_000)] * 2)) == 2


def test_model_sees_the_images_that_are_loaded_and_is_told_of_the_others() -> None:
    seen = Image("image/png", 2, 3, 9, b"data")
    lost = Image("image/gif", 4, 5, 9)
    message = Message("m", "s", "t", 0, 1, Role.USER, "look", images=(seen, lost))
    plain = Message("m", "s", "t", 0, 1, Role.USER, "so")
    sighted = Model("x/m", "x", "m", 128_000, 4096, image_tokens=700)
    one, other = shown([message, plain], sighted)
    assert [(image.data, image.tokens) for image in one.images] == [(b"data", 700)]
    assert one.text == "[An image, image/gif, 4x5, no longer shown.]\nlook"
    assert other.text == "so"
    blind, _ = shown([message, plain], Model("x/m", "x", "m", 128_000, 4096))
    assert blind.images == ()
    assert "[An image, image/png, 2x3, which you cannot see.]" in blind.text
