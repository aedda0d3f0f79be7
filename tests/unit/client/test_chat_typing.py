"""Ctrl-C while nothing runs: the first asks for another one, which leaves, however fast."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gathering_client.chatting.typist import Typist
from gathering_client.commands import chat
from gathering_client.output import errors


class Typing(Typist):
    """Somebody who types these, one after the other."""

    def __init__(self, *typed: str | type[KeyboardInterrupt]) -> None:
        self._typed = list(typed)

    def read(self) -> str | None:
        """Return the next."""
        next_ = self._typed.pop(0)
        if isinstance(next_, str):
            return next_
        raise next_


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what is said."""
    said: list[str] = []
    monkeypatch.setattr(errors, "print", lambda text, **_: said.append(text))
    return said


def test_second_ctrl_c_leaves(told: list[str]) -> None:
    assert chat.typed(Typing(KeyboardInterrupt, KeyboardInterrupt, "more")) is None
    assert len(told) == 1


def test_what_is_typed_after_a_ctrl_c_counts(told: list[str]) -> None:
    assert chat.typed(Typing(KeyboardInterrupt, "more")) == "more"
    assert len(told) == 1


def test_second_ctrl_c_leaves_also_while_the_first_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    print_: Callable[[], str | None] = Typing(KeyboardInterrupt).read
    monkeypatch.setattr(errors, "print", lambda *_, **__: print_())
    assert chat.typed(Typing(KeyboardInterrupt, "more")) is None
