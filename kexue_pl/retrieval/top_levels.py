"""The two widest levels of a prefix tree, tabulated once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kexue_pl.retrieval.beam_state import BeamState, Children, Ints
from kexue_pl.retrieval.sorted_rows import SortedRows


class TopLevels:
    """Children of the root and of the nodes one token below it.

    They alone are wide: thousands of first tokens, of which each search begins with all.

    Args:
        index: whose nodes are tabulated, on the spot.
    """

    def __init__(self, index: SortedRows) -> None:
        self.index = index
        zero = np.zeros(1, np.int64)
        self.root = index.children(BeamState(zero, zero, zero, index.base[1:2]))
        inner = self.root.token != index.separator
        self.first = self.root.lo[inner]
        zero = np.zeros(len(self.first), np.int64)
        nodes = BeamState(zero, zero + 1, self.first, self.root.hi[inner])
        self.second = index.children(nodes)
        self._many: Children | None = None

    def children(self, state: BeamState) -> Children:
        """Children of beams in segment 0 which are all at depth 0, or all at depth 1."""
        if state.depth[0] == 0:
            return self._repeated(len(state.lo))
        return self._copied(self.first.searchsorted(state.lo))

    def _repeated(self, times: int) -> Children:
        """The children of the root for many beams; kept, since batches mostly have one size."""
        if self._many is None or len(self._many.ptr) != times + 1:
            root, size = self.root, len(self.root.token)
            ptr, beam = np.arange(times + 1) * size, np.arange(times).repeat(size)
            token, lo, hi = (np.tile(x, times) for x in (root.token, root.lo, root.hi))
            self._many = Children(ptr, beam, token, lo, hi, self._count(times))
        return self._many

    def _copied(self, slot: Ints) -> Children:
        """The children of some nodes at depth 1, one a beam."""
        table = self.second
        start = table.ptr.take(slot)
        width = table.ptr.take(slot + 1) - start
        ptr = np.zeros(len(slot) + 1, np.int64)
        width.cumsum(out=ptr[1:])
        kernels, count = self.index.kernels, self._count(len(slot))
        if kernels is not None:
            out = np.empty((4, int(ptr[-1])), np.int64)
            kernels.copy(table.ptr, table.token, table.lo, table.hi, slot, ptr, out)
            beam, token, lo, hi = out
            return Children(ptr, beam, token, lo, hi, count)
        beam = np.arange(len(slot)).repeat(width)
        at = np.arange(len(beam)) + (start - ptr[:-1]).take(beam)
        token, lo, hi = (x.take(at) for x in (table.token, table.lo, table.hi))
        return Children(ptr, beam, token, lo, hi, count)

    def _count(self, beams: int) -> Callable[[Children], Ints]:
        return self.index.counter(np.zeros(beams, np.int64))
