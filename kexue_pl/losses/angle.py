"""AnglE: the CoSENT ranking loss over angles in complex space (arXiv 2309.12871)."""

from __future__ import annotations

import torch
from torch import Tensor

from kexue_pl.losses.base import Kind, PairOutputs
from kexue_pl.losses.cosent import CoSENT

__all__ = ["AnglE", "angle_similarity"]


def angle_similarity(left: Tensor, right: Tensor) -> Tensor:
    """Absolute normalised sum of the complex quotients of two vectors.

    With u = a + ib and v = c + id (a, b and c, d being the halves of the vectors)

        |sum over k of (a c + b d) + (b c - a d)| / (||u|| ||v||)

    Source: Li and Li, AnglE, arXiv 2309.12871, equation 6.

    Args:
        left: u (B, H). right: v (B, H). An odd H is padded by one zero.

    Returns:
        (B,) within 0..sqrt(2).

    >>> u, v = torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0, 1.0]])  # 1 + 2i, 2 + i
    >>> round(float(angle_similarity(u, v)), 6)  # |4 + 3| / 5
    1.4
    """
    if left.shape[-1] % 2:
        left, right = (torch.nn.functional.pad(x, (0, 1)) for x in (left, right))
    a, b = left.chunk(2, dim=-1)
    turned = torch.cat([a + b, b - a], dim=-1)
    norms = left.norm(dim=-1) * right.norm(dim=-1)
    similarity: Tensor = ((turned * right).sum(-1) / norms.clamp_min(1e-8)).abs()
    return similarity


class AnglE(CoSENT):
    """CoSENT over `angle_similarity`, whose gradient does not fade near cos = 1.

        L = log(1 + sum over (i, j) with y_i > y_j of exp(scale (angle_j - angle_i)))

    Only scores and labels are gathered over ranks, as for CoSENT. Evaluation ranks by the cosine.
    The absolute value makes the training score blind to the sign of the embeddings.

    Source: Li and Li, arXiv 2309.12871.

    Args:
        scale: multiplies the angle similarity; 20 in the paper.
        gather: joint batch over all ranks.
        kernel: see `cosent_loss`.
    """

    kind: Kind = "embeddings"

    def __init__(self, scale: float = 20.0, *, gather: bool = True, kernel: str = "auto") -> None:
        super().__init__(scale, gather=gather, kernel=kernel)

    def scaled(self, outputs: PairOutputs) -> Tensor:
        """(B,) scale times the angle similarity."""
        angles = angle_similarity(outputs.embedding("left"), outputs.embedding("right"))
        return self.scale * angles
