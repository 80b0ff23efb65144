"""Temperatures fitted per layer and head so that entropy stays that of the training length."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kexue_pl.attention.entropy import mean_entropy
from kexue_pl.attention.function import Call, ScaledAttention
from kexue_pl.attention.register import observing
from kexue_pl.attention.scaling import Scaling, as_float, check_above

_TABLES = ("lengths", "log_ratios")


class Calibrated(Scaling):
    """The sentence of kexue.fm/archives/8823 taken literally: keep the mean entropy, by bisection.

    :func:`calibrate` measures the mean entropy of every head at the training length and finds, at
    each longer length, the ratio that brings it back. Between measured lengths the log ratio is
    linear in log n, beyond the last it continues, and up to the training length it is 0. Before
    calibration the scaling is the standard one.

    Args:
        train_length: tokens of a training row; more than 1.
        bound: the ratio is sought in [1/bound, bound]; more than 1.
    """

    per_layer = True

    lengths: Tensor
    log_ratios: Tensor

    def __init__(self, train_length: int = 512, bound: float = 16.0) -> None:
        super().__init__()
        self.train_length = check_above("Calibrated", "train_length", train_length, 1)
        self.bound = check_above("Calibrated", "bound", bound, 1.0)
        self.target: Tensor | None = None
        self.register_buffer("lengths", torch.tensor([float(train_length)]))
        self.register_buffer("log_ratios", torch.zeros(1, 1))

    def ratio(self, n: Tensor, d: int) -> Tensor:
        """The fitted ratio, interpolated; n must broadcast to (B, 1, Q, 1) or be a scalar."""
        counts = as_float(n)
        if len(self.lengths) == 1:
            return torch.ones_like(counts)
        knots = self.lengths.log().to(counts.dtype)
        place = counts.clamp_min(self.train_length).log()
        left = (torch.searchsorted(knots, place.contiguous()) - 1).clamp(0, len(knots) - 2)
        step = (place - knots[left]) / (knots[left + 1] - knots[left])
        table = self.log_ratios.to(counts.dtype)
        logs = torch.lerp(table[left], table[left + 1], step.unsqueeze(-1))  # (..., heads)
        if counts.dim() == 4:
            logs = logs[:, 0, :, 0].transpose(1, 2).unsqueeze(-1)
        return logs.exp()

    def fit(self, call: Call, length: int, steps: int) -> None:
        """Record the target at the training length, or bisect the ratios for a longer one."""
        if length == self.train_length:
            self.target = mean_entropy(call)
            return
        assert self.target is not None
        low = torch.full_like(self.target, -math.log(self.bound))
        high = -low
        for _ in range(steps):
            middle = (low + high) / 2
            too_wide = mean_entropy(_with_ratio(call, middle.exp())) > self.target
            low, high = torch.where(too_wide, middle, low), torch.where(too_wide, high, middle)
        self._set(length, (low + high) / 2)

    def _set(self, length: int, logs: Tensor) -> None:
        known = {
            float(n): row for n, row in zip(self.lengths.tolist(), self.log_ratios, strict=True)
        }
        known[float(length)] = logs
        order = sorted(known)
        self.lengths = torch.tensor(order, device=logs.device)
        self.log_ratios = torch.stack([known[n].expand(logs.shape) for n in order])

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        for name in _TABLES:  # tables grow with the lengths calibrated, so take the stored shape
            if prefix + name in state_dict:
                stored = state_dict[prefix + name]
                setattr(self, name, torch.empty_like(stored, device=self.lengths.device))
        super()._load_from_state_dict(state_dict, prefix, *rest)  # type: ignore[no-untyped-call]


class _Fixed(Scaling):
    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = values

    def ratio(self, n: Tensor, d: int) -> Tensor:
        return self.values.view(1, -1, 1, 1)


def _with_ratio(call: Call, values: Tensor) -> Call:
    changed = Call(**vars(call))
    changed.scaling = _Fixed(values)
    return changed


@torch.no_grad()
def calibrate(
    model: nn.Module,
    function: ScaledAttention,
    batches: Mapping[int, Mapping[str, Tensor]],
    *,
    steps: int = 20,
) -> None:
    """Fit the :class:`Calibrated` scalings of a model, one forward pass a length.

    Layers are fitted in the order of the forward pass, each on the inputs it gets from the layers
    already fitted. Ratios are exact to ``2 log(bound) / 2^steps`` in their logarithm.

    Args:
        model: a model with calibrated scalings attached; run in evaluation mode.
        function: its attention function.
        batches: inputs of the model for each length n, all rows n tokens long; the shortest length
            must be the training length.
        steps: bisection steps a layer.

    Raises:
        ValueError: if the training length is missing or not the shortest.
    """
    train_length = getattr(function.scaling, "train_length", None)
    if not batches or min(batches) != train_length:
        raise ValueError(
            f"calibrate: lengths={sorted(batches)} must begin with the training length "
            f"{train_length}; set attention.train_length or data.eval_lengths"
        )
    training = model.training
    model.eval()
    for length in sorted(batches):

        def fit(call: Call, length: int = length) -> None:
            if isinstance(call.scaling, Calibrated):
                call.scaling.fit(call, length, steps)

        with observing(function, fit):
            model(**batches[length])
    model.train(training)
