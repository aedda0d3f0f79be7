"""Secrets open with their master key, for what they were sealed for, and for nothing else."""

from __future__ import annotations

import base64
import os
from dataclasses import replace
from pathlib import Path

import pytest

from gathering_agent.providers.sealing import Sealer, Unreadable, read_sealer

OF = ("ten_a", "anthropic")
OLD, NEW = os.urandom(32), os.urandom(32)


def test_sealed_secret_opens_and_does_not_show() -> None:
    sealer = Sealer([OLD])
    first, second = sealer.seal("sk-secret", OF), sealer.seal("sk-secret", OF)
    assert sealer.open(first, OF) == "sk-secret"
    assert b"sk-secret" not in first.content + first.wrapped
    assert first.content != second.content, "nonces and keys are new each time"


@pytest.mark.parametrize("of", [("ten_b", "anthropic"), ("ten_a", "openai"), ("ten_a",)])
def test_row_that_was_moved_opens_nothing(of: tuple[str, ...]) -> None:
    sealer = Sealer([OLD])
    with pytest.raises(Unreadable):
        sealer.open(sealer.seal("secret", OF), of)


@pytest.mark.parametrize("field", ["wrapped", "content"])
def test_row_that_was_changed_opens_nothing(field: str) -> None:
    sealer = Sealer([OLD])
    sealed = sealer.seal("secret", OF)
    whole: bytes = getattr(sealed, field)
    for broken in (whole[:-1] + bytes([whole[-1] ^ 1]), b"", b"short"):
        with pytest.raises(Unreadable):
            sealer.open(replace(sealed, **{field: broken}), OF)  # type: ignore[arg-type]  # bytes


def test_key_of_another_secret_opens_nothing() -> None:
    sealer = Sealer([OLD])
    one, other = sealer.seal("one", OF), sealer.seal("other", OF)
    with pytest.raises(Unreadable):
        sealer.open(replace(one, wrapped=other.wrapped), OF)


def test_new_master_key_renews_what_the_old_one_sealed() -> None:
    sealed = Sealer([OLD]).seal("secret", OF)
    both = Sealer([NEW, OLD])
    assert both.open(sealed, OF) == "secret"
    renewed = both.renewed(sealed, OF)
    assert (sealed.master, renewed.master) == (Sealer([OLD]).newest, both.newest)
    assert Sealer([NEW]).open(renewed, OF) == "secret"
    with pytest.raises(Unreadable):
        Sealer([NEW]).open(sealed, OF)


def test_master_keys_are_read_from_files(tmp_path: Path) -> None:
    good, short, other = tmp_path / "good", tmp_path / "short", tmp_path / "other"
    good.write_bytes(base64.b64encode(OLD) + b"\n")
    short.write_bytes(base64.b64encode(OLD[:16]))
    other.write_bytes(b"?")
    assert read_sealer(None, ()) is None
    sealer = read_sealer(good, ())
    assert sealer is not None
    assert sealer.newest == Sealer([OLD]).newest
    for wrong in (short, other):
        with pytest.raises(ValueError, match=r"32 bytes|base64"):
            read_sealer(wrong, ())
