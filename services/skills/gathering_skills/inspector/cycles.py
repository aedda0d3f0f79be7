"""Find circles in a graph of imports."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass


@dataclass(frozen=True)
class Cycle:
    """Modules that all reach each other, and a shortest way round through the first of them."""

    members: tuple[str, ...]
    example: tuple[str, ...]


def cycles_of(graph: Mapping[str, Set[str]]) -> list[Cycle]:
    """Return the circles, largest first."""
    groups = sorted(_Search(graph).groups(), key=lambda group: (-len(group), group))
    return [Cycle(tuple(group), tuple(_round(graph, group))) for group in groups]


class _Search:
    """Finds strongly connected groups of two and more (Tarjan 1972, without recursion)."""

    def __init__(self, graph: Mapping[str, Set[str]]) -> None:
        self._graph = graph
        self._index: dict[str, int] = {}
        self._low: dict[str, int] = {}
        self._stack: list[str] = []
        self._on_stack: set[str] = set()

    def groups(self) -> Iterator[list[str]]:
        for start in sorted(self._graph):
            if start not in self._index:
                yield from self._from(start)

    def _from(self, start: str) -> Iterator[list[str]]:
        path = [(start, self._enter(start))]
        while path:
            node, following = path[-1]
            target = next((t for t in following if self._leads_on(node, t)), None)
            if target is not None:
                path.append((target, self._enter(target)))
                continue
            path.pop()
            if path:
                above = path[-1][0]
                self._low[above] = min(self._low[above], self._low[node])
            if self._low[node] == self._index[node]:
                group = self._leave(node)
                if len(group) > 1:
                    yield sorted(group)

    def _leads_on(self, node: str, target: str) -> bool:
        """Tell whether a target was not met yet; note the way back to one that was."""
        if target not in self._index:
            return True
        if target in self._on_stack:
            self._low[node] = min(self._low[node], self._index[target])
        return False

    def _enter(self, node: str) -> Iterator[str]:
        self._index[node] = self._low[node] = len(self._index)
        self._stack.append(node)
        self._on_stack.add(node)
        return iter(sorted(self._graph.get(node, ())))

    def _leave(self, node: str) -> list[str]:
        group: list[str] = []
        while not group or group[-1] != node:
            group.append(self._stack.pop())
            self._on_stack.discard(group[-1])
        return group


def _round(graph: Mapping[str, Set[str]], group: list[str]) -> list[str]:
    """Return the shortest way from the first member back to it."""
    start, members = group[0], set(group)
    came_from: dict[str, str] = {}
    pending = deque([start])
    while pending:
        node = pending.popleft()
        for target in sorted(graph.get(node, ())):
            if target == start:
                way = [start, node]
                while way[-1] != start:
                    way.append(came_from[way[-1]])
                return way[::-1]
            if target in members and target not in came_from:
                came_from[target] = node
                pending.append(target)
    return [start]
