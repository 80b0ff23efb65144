"""What a beam remembers of the prefix index, and the children it may go to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class BeamState(NamedTuple):
    """Four integers a beam; nothing is ever walked again from the root.

    Args:
        segment: which segment of the key is being written, (B,) int64; K when the key is complete.
        depth: tokens of this segment already written, (B,) int64.
        lo, hi: range of the distinct first segments while ``segment == 0``, of sorted rows after.
    """

    segment: Ints
    depth: Ints
    lo: Ints
    hi: Ints

    def take(self, beams: Ints) -> BeamState:
        """The states of the chosen beams, in that order: what a beam search calls reorder."""
        return BeamState(*(x[beams] for x in self))

    @staticmethod
    def concatenate(states: list[BeamState]) -> BeamState:
        """Beams of several states one after another."""
        return BeamState(*(np.concatenate(parts) for parts in zip(*states, strict=True)))


@dataclass(frozen=True, slots=True)
class Children:
    """Allowed next tokens of B beams as a ragged list in ascending token order, separator first.

    Args:
        ptr: (B + 1,) int64; the children of beam b are ``ptr[b]:ptr[b + 1]``.
        beam: (C,) int64, which beam each child belongs to.
        token: (C,) int64.
        lo, hi: (C,) int64, the range of each child in the units of its parent's range.
        rows: gives the rows of the base under each child, when asked.
    """

    ptr: Ints
    beam: Ints
    token: Ints
    lo: Ints
    hi: Ints
    rows: Callable[[Children], Ints]

    @property
    def counts(self) -> Ints:
        """Rows of the base under each child, (C,) int64."""
        return self.rows(self)
