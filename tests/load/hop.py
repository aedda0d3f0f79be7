"""A call to a service of the mesh beside one to bare grpc.aio: same message, same handler."""

from __future__ import annotations

from tests.load.children import child
from tests.load.plan import Plan
from tests.load.report import Row, rows
from tests.load.system import opened, raw, same
from tests.load.timing import Side, compare, loop
from tests.support.probe import SERVICE, request

_PATH = f"/{SERVICE}/Echo"
_BESIDE = "bare grpc.aio with uvloop"


async def measure(plan: Plan) -> list[Row]:
    """Return the figures of one call at a time and of 16."""
    message = request(text="hello", tags=["a", "b"], page_size=20).SerializeToString()
    found: list[Row] = []
    async with (
        child("probe") as ours,
        child("probe-bare") as bare,
        opened(ours.address) as to_ours,
        opened(bare.address) as to_bare,
    ):
        metadata = (("authorization", f"Bearer {ours.told['token']}"),)
        calls = {
            "ours": (raw(to_ours, _PATH, metadata), ours.pid),
            "bare": (raw(to_bare, _PATH, metadata), bare.pid),
        }
        for at_once, count in ((1, 500), (16, 1500)):
            sides = {
                name: Side(loop(same(call, message), plan.count(count), at_once), [pid])
                for name, (call, pid) in calls.items()
            }
            took = await compare(sides, plan.rounds)
            units = "ms p50, CPU µs each" if at_once == 1 else "per s, ms p99"
            found += rows(
                "mesh hop", f"{at_once} at once", took["ours"], took["bare"], _BESIDE, only=units
            )
    return found
