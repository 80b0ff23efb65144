"""The nested dict of the article, as an oracle, and nasty small bases."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

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
    items: list[tuple[list[int], int]],
) -> tuple[dict[int, Any], dict[tuple[int, ...], list[int]]]:
    """Nested dict of the keys (each with its last separator) and the values of each key."""
    root: dict[int, Any] = {}
    leaves: dict[tuple[int, ...], list[int]] = {}
    for key, value in items:
        path = (*key, SEP)
        leaves.setdefault(path, []).append(value)
        node = root
        for token in path:
            node = node.setdefault(token, {})
    return root, leaves


def below(prefix: tuple[int, ...], leaves: dict[tuple[int, ...], list[int]]) -> list[int]:
    """Values of all keys under a prefix, sorted."""
    return sorted(v for k, vs in leaves.items() if k[: len(prefix)] == prefix for v in vs)
