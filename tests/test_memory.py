"""The benchmarks' count of memory."""

from __future__ import annotations

import sys

import pytest

from kexue_pl.testing.memory import highest_memory, watch_memory

BLOCK, BLOCKS = 100_000, 640


@pytest.mark.skipif(sys.platform != "linux", reason="counts by files that only Linux has")
def test_memory_freed_before_hides_nothing() -> None:
    kept, freed = [], []
    for _ in range(BLOCKS):  # what is kept in between leaves holes in the heap
        freed.append(b"a" * BLOCK)
        kept.append(b"b" * 20_000)
    freed.clear()
    before = watch_memory()
    again = [b"c" * BLOCK for _ in range(BLOCKS)]
    mib = BLOCK * BLOCKS / 2**20
    assert 0.9 * mib < highest_memory() - before < 1.2 * mib
    assert len(again) == len(kept)
