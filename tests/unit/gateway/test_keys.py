"""The folder of signing keys: first key, rotation, what is published when."""

from __future__ import annotations

import asyncio
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gathering_gateway.provider_keys import KeyFolder, KeyFolderError

DAY = 86_400.0
TIME = "%Y%m%dT%H%M%S.%fZ"


async def published(folder: Path, retained: float = DAY) -> set[str]:
    return {key["kid"] for key in await KeyFolder(folder, retained).published()}


def files(folder: Path) -> set[str]:
    return {path.stem.partition("-")[2] for path in folder.glob("*.pem")}


def aged(folder: Path, seconds: float) -> None:
    """Let all keys be older."""
    for path in folder.glob("*.pem"):
        moment, _, rest = path.name.partition("-")
        older = datetime.strptime(moment, TIME).replace(tzinfo=UTC) - timedelta(seconds=seconds)
        path.rename(folder / f"{older.strftime(TIME)}-{rest}")


async def test_first_key_is_made_once_whoever_comes_first(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    await asyncio.gather(*(KeyFolder(folder, DAY).prepare() for _ in range(8)))
    (path,) = folder.glob("*.pem")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {(await KeyFolder(folder, DAY).signing()).kid} == await published(folder)


async def test_new_key_is_published_before_it_signs(tmp_path: Path) -> None:
    keys = KeyFolder(tmp_path, DAY)
    await keys.prepare()
    old = (await keys.signing()).kid
    new = (await keys.rotate(600)).key.kid
    assert await published(tmp_path) == {old, new}
    assert (await KeyFolder(tmp_path, DAY).signing()).kid == old
    aged(tmp_path, 601)
    assert (await KeyFolder(tmp_path, DAY).signing()).kid == new
    assert await published(tmp_path) == {old, new}, "tokens of the old one are still valid"


async def test_first_key_signs_also_where_the_clock_was_set_back(tmp_path: Path) -> None:
    keys = KeyFolder(tmp_path, DAY)
    await keys.prepare()
    first = (await keys.signing()).kid
    await keys.rotate(600)
    aged(tmp_path, -3600)
    fresh = KeyFolder(tmp_path, DAY)
    await fresh.prepare()
    assert (await fresh.signing()).kid == first


async def test_key_goes_when_its_last_token_has_ended(tmp_path: Path) -> None:
    keys = KeyFolder(tmp_path, 900)
    await keys.prepare()
    new = (await keys.rotate(0)).key.kid
    aged(tmp_path, 901)
    assert await published(tmp_path, 900) == {new}
    newest = (await keys.rotate(600)).key.kid
    assert files(tmp_path) == {new, newest}


async def test_leaked_keys_go_at_once(tmp_path: Path) -> None:
    keys = KeyFolder(tmp_path, DAY)
    await keys.prepare()
    await keys.rotate(600)
    new = (await keys.rotate(0, drop_others=True)).key.kid
    assert await published(tmp_path) == {new}
    assert (await KeyFolder(tmp_path, DAY).signing()).kid == new


async def test_running_reader_keeps_its_keys_while_the_folder_is_broken(tmp_path: Path) -> None:
    keys = KeyFolder(tmp_path, DAY)
    await keys.prepare()
    known = (await keys.signing()).kid
    (tmp_path / "20200101T000000.000000Z-x.pem").write_text("no key")
    keys._read_at = float("-inf")  # as if its time had come
    assert (await keys.signing()).kid == known
    with pytest.raises(KeyFolderError, match=r"x\.pem"):
        await KeyFolder(tmp_path, DAY).prepare()


async def test_folder_that_cannot_be_made_is_named() -> None:
    with pytest.raises(KeyFolderError, match="/proc/keys"):
        await KeyFolder(Path("/proc/keys"), DAY).prepare()
