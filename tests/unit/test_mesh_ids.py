"""Ids: their form, and that they sort by the time of their making."""

import re
import time
import uuid

from gathering_mesh.ids import new_id


def test_id_is_a_prefix_and_a_uuid_of_version_seven() -> None:
    made = new_id("tsk")
    assert re.fullmatch(r"tsk_[0-9a-f]{32}", made)
    parsed = uuid.UUID(made.removeprefix("tsk_"))
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert abs((parsed.int >> 80) / 1000 - time.time()) < 60


def test_ids_differ_and_sort_by_time() -> None:
    made = []
    for _ in range(200):
        made.append(new_id("x"))
        time.sleep(0.00001)
    assert len(set(made)) == 200
    assert made == sorted(made)
