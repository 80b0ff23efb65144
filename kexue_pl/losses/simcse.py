"""SimCSE: two dropout views of a text are each other's positive."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from kexue_pl.losses.info_nce import InfoNCE

__all__ = ["SimCSE"]


class SimCSE(InfoNCE):
    """InfoNCE between two encodings of the same texts that differ by dropout alone; no labels.

        L = -mean over i of log [exp(s_ii) / sum over j of exp(s_ij)],  s_ij = scale cos(h_i, h'_j)

    `twins` asks the task to encode each text twice in training mode and to hand the two over as
    `left` and `right`; the encoder needs dropout above 0, else both are equal and nothing is
    learned but uniformity. Labels, if any, are ignored.

    Source: Gao, Yao and Chen, arXiv 2104.08821; temperature 0.05, so scale 20.

    Args:
        scale: 1 / temperature.
        gather: negatives from all ranks; False takes each rank's batch alone.
    """

    data: ClassVar[tuple[str, ...]] = ("unsupervised",)
    twins = True

    def __init__(self, scale: float = 20.0, *, gather: bool = True) -> None:
        super().__init__(scale, gather=gather)

    def check_labels(self, labels: Tensor | None) -> None:
        """Any labels will do: none is read."""
