"""The mesh's command for operators."""

import pytest

from gathering_mesh import admin


def test_new_history_without_an_address_ends_with_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GATHERING_SYSTEM_DATABASE_URL", raising=False)
    with pytest.raises(SystemExit) as caught:
        admin.main(["new-history"])
    assert str(caught.value) == "new-history: GATHERING_SYSTEM_DATABASE_URL is not set"
