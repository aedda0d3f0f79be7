"""What the lock files must not hold."""

import re
from pathlib import Path

import pytest

LOCKS = sorted((Path(__file__).parents[2] / "requirements").glob("*.lock"))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_lock_holds_no_torch_and_no_address(lock: Path) -> None:
    content = lock.read_text()
    names = re.findall(r"^([a-z0-9._-]+)==", content, flags=re.MULTILINE)
    assert {"grpcio", "asyncpg"} <= set(names)
    heavy = [n for n in names if re.match(r"torch|nvidia|triton|cuda|sentence-transformers", n)]
    assert not heavy
    assert not re.findall(r"://|^-|@ ", content, flags=re.MULTILINE)


def test_locks_agree_on_every_version() -> None:
    run, everything = (
        dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", lock.read_text(), flags=re.MULTILINE))
        for lock in sorted(LOCKS, key=lambda lock: lock.name, reverse=True)
    )
    assert run.items() <= everything.items()
