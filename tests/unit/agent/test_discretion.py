"""What a provider repeats of a key is told to nobody."""

from __future__ import annotations

import traceback

import pytest

from gathering_agent.errors import ModelFailed, ModelNotConfigured
from gathering_agent.providers.discretion import tells, without

KEY = "sk-very-secret-0123"


def refused(message: str, cause: str) -> ModelNotConfigured:
    try:
        try:
            raise ValueError(cause)
        except ValueError as error:
            raise ModelNotConfigured(message) from error
    except ModelNotConfigured as error:
        return error


@pytest.mark.parametrize(
    ("message", "cause"), [(f"wrong key {KEY}", "no"), ("wrong key", f"sent {KEY}")]
)
def test_secret_is_found_in_a_failure_and_in_what_led_to_it(message: str, cause: str) -> None:
    error = refused(message, cause)
    assert tells(error, KEY)
    assert not tells(error, "")
    assert not tells(error, "another")
    try:
        try:
            raise error
        except ModelNotConfigured as told:
            raise without(told, KEY) from None
    except ModelNotConfigured as hidden:
        assert KEY not in "".join(traceback.format_exception(hidden))
        assert hidden.reason == error.reason
        assert KEY not in hidden.message


def test_what_is_known_of_a_failure_is_kept() -> None:
    error = ModelFailed(f"failed with {KEY}", retry_after=7.0)
    error.unsent = error.refused = True
    hidden = without(error, KEY)
    assert (hidden.retry_after, hidden.unsent, hidden.refused) == (7.0, True, True)
    assert str(hidden) == "failed with ***"
    assert str(error) != str(hidden), "the first one stays as it was"
