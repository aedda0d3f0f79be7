"""Text becomes terms: the same ones for what is stored and what is asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gathering_memory.words import LONGEST_TERM, frequencies, terms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Running runners run", ["run", "runner", "run"]),
        ("The user's cats", ["the", "user", "cat"]),
        ("don\u2019t don't", ["don't", "don't"]),
        ("Café ÉCOLE", ["cafe", "ecol"]),
        ("Straße", ["strass"]),
        ("createTask", ["createtask", "creat", "task"]),
        ("HTTPServer", ["httpserver", "http", "server"]),
        ("max_retry_count", ["max_retry_count", "max", "retri", "count"]),
        ("utf8", ["utf8", "utf", "8"]),
        ("v3.11", ["v3", "v", "3", "11"]),
        ("__init__", ["init"]),
        ("iPhone iphone", ["iphon", "i", "phone", "iphon"]),
        ("東京タワー", ["東京", "京タ", "タワ", "ワー"]),
        ("猫", ["猫"]),
        ("hello世界", ["hello", "世界"]),
        ("안녕 세계", ["안녕", "세계"]),
        ("हिन्दी।", ["हिन्दी"]),
        ("", []),
        (" ... --- !? _", []),
    ],
)
def test_text_becomes_terms(text: str, expected: list[str]) -> None:
    assert list(terms(text)) == expected


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        ("Deployments were failing", "deployment fails"),
        ("The organisation archives invoices", "archived invoice"),
        ("getUserName is slow", "user name"),
        ("see gathering_mesh.paging", "paging in gathering mesh"),
        ("東京に住んでいる", "東京"),
        ("RÉSUMÉ", "resume\u0301"),
    ],
)
def test_asked_words_meet_stored_words(stored: str, asked: str) -> None:
    assert set(terms(stored)) & set(terms(asked))


@given(st.text(max_size=300))
def test_any_text_becomes_short_terms_of_letters_and_digits(text: str) -> None:
    for term in terms(text):
        assert 0 < len(term) <= LONGEST_TERM
        assert not any(character.isspace() for character in term)
        assert "\0" not in term


@given(st.text(max_size=200))
def test_counts_are_those_of_the_terms(text: str) -> None:
    assert sum(frequencies(text).values()) == len(list(terms(text)))


@given(st.lists(st.text(alphabet="abcdefghij", min_size=1, max_size=8), max_size=20))
def test_order_of_words_does_not_change_their_counts(words: list[str]) -> None:
    assert frequencies(" ".join(words)) == frequencies(" ".join(reversed(words)))
    assert frequencies(" ".join(words).upper()) == frequencies(" ".join(words))


def test_long_run_of_letters_is_cut() -> None:
    assert list(terms("x" * 10_000)) == ["x" * LONGEST_TERM]
