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
    groups = sorted(_components(graph), key=lambda group: (-len(group), group))
    return [Cycle(tuple(group), tuple(_round(graph, group))) for group in groups]


def _components(graph: Mapping[str, Set[str]]) -> Iterator[list[str]]:
    """Yield the strongly connected groups of two and more (Tarjan 1972, without recursion)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    for start in sorted(graph):
        if start in index:
            continue
        path: list[tuple[str, Iterator[str]]] = [_enter(start, graph, index, low, stack, on_stack)]
        while path:
            node, following = path[-1]
            for target in following:
                if target not in index:
                    path.append(_enter(target, graph, index, low, stack, on_stack))
                    break
                if target in on_stack:
                    low[node] = min(low[node], index[target])
            else:
                path.pop()
                if path:
                    above = path[-1][0]
                    low[above] = min(low[above], low[node])
                if low[node] == index[node]:
                    group = _leave(node, stack, on_stack)
                    if len(group) > 1:
                        yield sorted(group)


def _enter(
    node: str,
    graph: Mapping[str, Set[str]],
    index: dict[str, int],
    low: dict[str, int],
    stack: list[str],
    on_stack: set[str],
) -> tuple[str, Iterator[str]]:
    index[node] = low[node] = len(index)
    stack.append(node)
    on_stack.add(node)
    return node, iter(sorted(graph.get(node, ())))


def _leave(node: str, stack: list[str], on_stack: set[str]) -> list[str]:
    group = []
    while True:
        member = stack.pop()
        on_stack.discard(member)
        group.append(member)
        if member == node:
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
