"""Which file an import means, and which modules import each other in a circle."""

from __future__ import annotations

import random
from itertools import pairwise

from gathering_skills.inspector.cycles import cycles_of
from gathering_skills.inspector.modules import Modules


def test_packages_namespaces_scripts_and_the_library_are_told_apart() -> None:
    modules = Modules(
        [
            "mesh/pkg/__init__.py",
            "mesh/pkg/call.py",
            "mesh/pkg/sub/__init__.py",
            "gen/space/v1/thing_pb2.py",
            "gen/space/v1/thing_pb2.pyi",
            "tools/build.py",
            "tools/helper.py",
            "src/json/codec.py",
            "top.py",
        ]
    )
    here = "services/x.py"
    assert modules.file_of("pkg.call", here) == "mesh/pkg/call.py"
    assert modules.file_of("pkg.call.Call", here) == "mesh/pkg/call.py"
    assert modules.file_of("pkg", here) == "mesh/pkg/__init__.py"
    assert modules.file_of("space.v1.thing_pb2", here) == "gen/space/v1/thing_pb2.py"
    assert modules.file_of("top", here) == "top.py"
    assert modules.file_of("helper", here) is None
    assert modules.file_of("helper", "tools/build.py") == "tools/helper.py"
    assert modules.file_of("json.codec", here) is None  # the standard library's
    assert modules.file_of("requests", here) is None
    assert modules.relative("mesh/pkg/call.py", 1, ["sub"]) == "mesh/pkg/sub/__init__.py"
    assert modules.relative("mesh/pkg/sub/a.py", 2, ["call"]) == "mesh/pkg/call.py"
    assert modules.relative("mesh/pkg/sub/a.py", 2, []) == "mesh/pkg/__init__.py"


def test_name_that_two_files_could_have_is_nobodys() -> None:
    modules = Modules(["a/pkg/__init__.py", "b/pkg/__init__.py"])
    assert modules.file_of("pkg", "c/x.py") is None
    assert modules.file_of("a.pkg", "c/x.py") == "a/pkg/__init__.py"


def test_circle_is_found_with_a_shortest_way_round() -> None:
    graph = {"a": {"b", "z"}, "b": {"c"}, "c": {"a", "d"}, "d": {"a"}, "z": set[str]()}
    (cycle,) = cycles_of(graph)
    assert cycle.members == ("a", "b", "c", "d")
    assert cycle.example == ("a", "b", "c", "a")
    assert cycles_of({"a": {"b"}, "b": {"c"}, "c": set()}) == []


def test_circles_are_the_groups_that_reach_each_other() -> None:
    chance = random.Random(3)  # noqa: S311 - not for secrets
    for _ in range(200):
        nodes = [str(n) for n in range(chance.randint(2, 9))]
        graph = {n: {m for m in nodes if m != n and chance.random() < 0.2} for n in nodes}
        reach = {n: _reachable(graph, n) for n in nodes}
        groups = {tuple(sorted(m for m in nodes if m in reach[n] and n in reach[m])) for n in nodes}
        found = cycles_of(graph)
        assert {cycle.members for cycle in found} == {group for group in groups if len(group) > 1}
        for cycle in found:
            way = cycle.example
            assert way[0] == way[-1]
            assert all(b in graph[a] for a, b in pairwise(way))


def _reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    pending = [start]
    while pending:
        for node in graph[pending.pop()] - seen:
            seen.add(node)
            pending.append(node)
    return seen


def test_long_chain_needs_no_deep_recursion() -> None:
    graph = {str(n): {str((n + 1) % 50_000)} for n in range(50_000)}
    (cycle,) = cycles_of(graph)
    assert len(cycle.members) == 50_000
