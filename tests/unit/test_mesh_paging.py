"""Page tokens: what goes in comes out, for the same list alone."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gathering_mesh.errors import InvalidArgument
from gathering_mesh.paging import decode_token, encode_token, page_size, query_fingerprint

LIST = query_fingerprint("ListThings", "ten_a", None)
keys = st.lists(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False),
    max_size=4,
)


@given(keys)
def test_key_survives_the_token(key: list[str | int | float]) -> None:
    kinds = [type(value) for value in key]
    assert decode_token(LIST, encode_token(LIST, key), kinds) == tuple(key)


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (["x"], int), ([True], int), ([1], str), ([], str), (["a", "b"], str), ([1.0], int),
        (["\0"], str), (["\ud800"], str), ([2**63], int), ([float("nan")], float),
        ([float("inf")], float),
    ],
)  # fmt: skip
def test_key_that_the_list_cannot_have_is_refused(key: list[str | int | float], kind: type) -> None:
    with pytest.raises(InvalidArgument) as refused:
        decode_token(LIST, encode_token(LIST, key), [kind])
    assert refused.value.reason == "INVALID_PAGE_TOKEN"


def test_token_that_nests_without_end_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        decode_token(LIST, base64.urlsafe_b64encode(LIST + b"[" * 100_000).decode())


def test_empty_token_is_the_first_page() -> None:
    assert decode_token(LIST, "") is None


@given(st.text(min_size=1))
def test_any_other_text_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        decode_token(LIST, token)
    assert refused.value.reason == "INVALID_PAGE_TOKEN"


@pytest.mark.parametrize("content", [b"", b"{}", b'[{"a": 1}]', b"[null]", b"\xff"])
def test_token_with_another_content_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidArgument):
        decode_token(LIST, base64.urlsafe_b64encode(LIST + content).decode())


def test_token_of_another_list_is_refused() -> None:
    for other in (("ListThings", "ten_b", None), ("ListThings", "ten_a", "filter")):
        with pytest.raises(InvalidArgument):
            decode_token(LIST, encode_token(query_fingerprint(*other), ["x"]))


@pytest.mark.parametrize(("asked", "given"), [(0, 50), (1, 1), (200, 200), (1000, 200)])
def test_page_size_is_bounded(asked: int, given: int) -> None:
    assert page_size(asked) == given


def test_negative_page_size_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        page_size(-1)
