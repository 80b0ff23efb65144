"""The nested dict of the article, as an oracle, and nasty small bases."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from kexue_pl.retrieval import PrefixIndex

SEP = 2

strings = st.lists(st.integers(3, 7), max_size=4)


@st.composite
def bases(draw: st.DrawFn) -> list[tuple[list[int], int]]:
    """Keys with empty segments, prefixes of each other, duplicates, several values; K = 1 … 4."""
    segments = draw(st.integers(1, 4))
    pools = [draw(st.lists(strings, min_size=1, max_size=6)) for _ in range(segments)]
    picks = st.tuples(*(st.integers(0, len(p) - 1) for p in pools))
    rows = draw(st.lists(st.tuples(picks, st.integers(0, 9)), min_size=1, max_size=40))
    items = []
    for numbers, value in rows:
        key: list[int] = []
        for k, number in enumerate(numbers):
            key += ([SEP] if k else []) + pools[k][number]
        items.append((key, value))
    return items


def tree(
    items: list[tuple[list[int], Any]], separator: int = SEP
) -> tuple[dict[int, Any], dict[tuple[int, ...], list[Any]]]:
    """Nested dict of the keys (each with its last separator) and the values of each key."""
    root: dict[int, Any] = {}
    leaves: dict[tuple[int, ...], list[Any]] = {}
    for key, value in items:
        path = (*key, separator)
        leaves.setdefault(path, []).append(value)
        node = root
        for token in path:
            node = node.setdefault(token, {})
    return root, leaves


def below(prefix: tuple[int, ...], leaves: dict[tuple[int, ...], list[Any]]) -> list[int]:
    """Values of all keys under a prefix, sorted."""
    return sorted(v for k, vs in leaves.items() if k[: len(prefix)] == prefix for v in vs)


def walk(index: PrefixIndex, root: dict[int, Any], leaves: dict[tuple[int, ...], list[Any]]) -> int:
    """Breadth first over all nodes, one batched call a level; returns the number of nodes."""
    state, nodes, paths, seen = index.start(1), [root], [()], 0
    while nodes:
        seen += len(nodes)
        lo, hi = index.leaves(state)
        allowed, again = index.allowed(state), index.children(state)
        for name in ("ptr", "beam", "token", "lo", "hi", "counts"):
            assert np.array_equal(getattr(allowed, name), getattr(again, name)), name
        for b, (node, path) in enumerate(zip(nodes, paths, strict=True)):
            a, z = allowed.ptr[b], allowed.ptr[b + 1]
            assert sorted(allowed.token[a:z].tolist()) == sorted(node)
            want = below(path, leaves)
            assert sorted(index.value(r) for r in range(lo[b], hi[b])) == want
            assert allowed.counts[a:z].sum() == (len(want) if node else 0)
            if z > a:
                assert allowed.lo[a] == state.lo[b] and allowed.hi[z - 1] == state.hi[b]
                assert (allowed.lo[a + 1 : z] == allowed.hi[a : z - 1]).all()
            else:
                assert tuple(index.key(int(lo[b]))) == path
        beam = allowed.beam
        chosen = index.choose(state, allowed, np.arange(len(beam)))
        walked = index.advance(state.take(beam), allowed.token)
        assert all(np.array_equal(x, y) for x, y in zip(chosen, walked, strict=True))
        nodes = [nodes[b][t] for b, t in zip(beam.tolist(), allowed.token.tolist(), strict=True)]
        paths = [(*paths[b], t) for b, t in zip(beam.tolist(), allowed.token.tolist(), strict=True)]
        state = chosen
    return seen
