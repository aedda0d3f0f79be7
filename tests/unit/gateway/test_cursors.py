"""Cursors: whatever was encoded comes back; whatever else comes is refused."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gathering_gateway import cursors
from gathering_gateway.errors import InvalidCursor
from gathering_gateway.models_feed import Place

SOURCES = ("agent", "gateway", "memory", "orchestrator", "skills")
PLACES = st.builds(
    Place,
    st.text("0123456789abcdef", max_size=32),
    st.integers(0, 2**63 - 1),
    st.floats(0, 2e9, allow_nan=False),
)


@given(st.dictionaries(st.sampled_from(SOURCES), PLACES))
def test_cursor_comes_back_and_fits_its_bound(places: dict[str, Place]) -> None:
    cursor = cursors.encode(places)
    assert cursors.decode(cursor, SOURCES) == places
    assert len(cursor) <= 2048


@given(st.text(max_size=60))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    try:
        cursors.decode(text, SOURCES)
    except InvalidCursor as error:
        assert "cursor" in error.fields


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(JSON, JSON)
def test_any_json_is_a_cursor_or_refused(version: Any, places: Any) -> None:
    for document in ({"v": version, "p": places}, {"v": 1, "p": {"agent": places}}, places):
        text = base64.urlsafe_b64encode(json.dumps(document).encode()).decode()
        try:
            found = cursors.decode(text, SOURCES)
        except InvalidCursor:
            continue
        assert all(0 <= place.position < 2**63 for place in found.values())


@pytest.mark.parametrize(
    "value", [["e", True], ["e", 1, True], ["e", 1, float("nan")], ["\0", 1], ["\ud800", 1]]
)
def test_what_no_service_would_take_is_refused(value: list[Any]) -> None:
    text = base64.urlsafe_b64encode(json.dumps({"v": 1, "p": {"agent": value}}).encode()).decode()
    with pytest.raises(InvalidCursor):
        cursors.decode(text, SOURCES)
