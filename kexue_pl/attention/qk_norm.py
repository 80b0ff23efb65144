"""Cosine attention: queries and keys of length one, with a temperature of its own."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kexue_pl.attention.scaling import Scaling, as_float, check_above, log_keys, per_head

Mode = Literal["fixed", "learned", "log_n"]


class QKNorm(Scaling):
    """``lambda cos(q, k)``, arXiv 2010.04245 and kexue.fm/archives/9812.

    Args:
        mode: ``fixed`` lambda, ``learned`` lambda a head, or ``log_n``: lambda = c log n, the
            article's answer to how the temperature of a cosine should grow.
        value: lambda, its starting value, or c; more than 0; None means 10, 10 and 3.5.

    Raises:
        ValueError: for an unknown mode or a value that is not positive.

    >>> QKNorm(value=4.0).factor(torch.tensor([5]), d=64).item()
    4.0
    >>> q = torch.tensor([[[[3.0, 4.0]]]])
    >>> QKNorm().transform(q, q)[0].flatten().tolist()
    [0.6000000238418579, 0.800000011920929]
    """

    absolute = True

    def __init__(self, mode: Mode = "fixed", value: float | None = None) -> None:
        super().__init__()
        if mode not in get_args(Mode):
            raise ValueError(
                f"QKNorm: mode={mode!r} is not one of {', '.join(get_args(Mode))}; "
                "set attention.mode"
            )
        start = value if value is not None else (3.5 if mode == "log_n" else 10.0)
        self.mode = mode
        self.value = check_above("QKNorm", "value", start, 0.0)
        self.gain = nn.Parameter(torch.ones(1)) if mode == "learned" else None
        self.per_layer = mode == "learned"  # type: ignore[misc]

    def bind(self, heads: int) -> None:
        """One lambda a head when it is learned."""
        if self.gain is not None:
            self.gain = nn.Parameter(self.gain.detach().expand(heads).clone())

    def transform(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Both vectors divided by their Euclidean norms."""
        return F.normalize(query, dim=-1), F.normalize(key, dim=-1)

    def factor(self, n: Tensor, d: int) -> Tensor:
        """lambda, in the shape of n (times heads when learned)."""
        if self.mode == "log_n":
            return self.value * log_keys(n)
        factor = torch.full_like(as_float(n), self.value)
        return factor if self.gain is None else factor * per_head(self.gain).to(factor.dtype)

    def ratio(self, n: Tensor, d: int) -> Tensor:
        """``lambda sqrt(d)``: what lambda is beside ``1/sqrt(d)``."""
        return self.factor(n, d) * math.sqrt(d)
