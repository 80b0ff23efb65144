"""The use of the learnt step size: change one step of any optimizer from outside."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from kexue_pl.optim.alignment import local
from kexue_pl.optim.families import adam_formula, adam_step, decoupled_decay
from kexue_pl.optim.gains import apply_gain, finish_step
from kexue_pl.optim.kernels import fits, fused_finish, fused_finish_adam

Group = dict[str, Any]
Touched = list[tuple[Group, Tensor]]


class StepScaler:
    r"""Makes a step ``s p d`` out of the optimizer's step d, exactly d where s = p = 1.

    Args:
        optimizer: the optimizer.
        scale_by_lr: s multiplies ``group["lr"]`` for the step: exact, no memory; otherwise s
            multiplies what the step added.
        gain_on: "gradient", "update" or None.
        keep_delta: store the step in the state, as the signal of the next one.
        decouple_weight_decay: gains leave decoupled weight decay alone.
        fused: finish steps with gains in one pass, where the kernels know the tensors.

    Example:
        >>> w = torch.nn.Parameter(torch.ones(1))
        >>> sgd = torch.optim.SGD([w], lr=0.1)
        >>> scaler = StepScaler(sgd, scale_by_lr=True)
        >>> sgd.param_groups[0]["eg_log_scale"] = math.log(2.0)
        >>> scaler.before([(sgd.param_groups[0], w)])
        >>> sgd.param_groups[0]["lr"]
        0.2
        >>> scaler.restore()
        >>> sgd.param_groups[0]["lr"]
        0.1
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        scale_by_lr: bool,
        scale_by_delta: bool = False,
        gain_on: str | None = None,
        keep_delta: bool = False,
        decouple_weight_decay: bool = True,
        fused: bool = False,
    ) -> None:
        self.fused = fused
        self.optimizer, self.scale_by_lr, self.gain_on = optimizer, scale_by_lr, gain_on
        self.scale_by_delta, self.keep_delta = scale_by_delta, keep_delta
        self.decouple_weight_decay = decouple_weight_decay
        self._needs_delta = gain_on == "update" or scale_by_delta or keep_delta
        self._scratch: dict[Tensor, Tensor] = {}
        self._lrs: list[tuple[Group, Any]] = []
        self._gradients: list[tuple[Tensor, Tensor]] = []
        self._known: Touched = []
        self._copied: Touched = []

    def before(self, touched: Touched) -> None:
        """Scale rates and gradients, and note where the parameters stand."""
        if self.scale_by_lr:
            for group in self.optimizer.param_groups:
                self._scale_lr(group, math.exp(group.get("eg_log_scale", 0.0)))
        self._known, self._copied = self._divided(touched)
        for _, p in self._copied:
            # delta = p_new + (-p_old): no copy, one pass, no rounding of a product.
            torch.neg(local(p), out=self._buffer(p, self.optimizer.state.get(p, {})))
        for _, p in touched if self.gain_on == "gradient" else []:
            state = self.optimizer.state.get(p, {})
            if "eg_log_gain" in state and p.grad is not None:
                self._gradients.append((p, p.grad))
                p.grad = torch.empty_like(p.grad)
                given = local(self._gradients[-1][1])
                apply_gain(given, local(state["eg_log_gain"]), out=local(p.grad))

    def restore(self) -> None:
        """Put rates and gradients back as their owner set them."""
        for group, lr in self._lrs:
            if isinstance(lr, Tensor):
                group["lr"].copy_(lr)
            else:
                group["lr"] = lr
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        self._lrs, self._gradients = [], []

    def after(self, *, unscale: float = 1.0) -> None:
        """Scale what the step added, by scales and gains that act on the update."""
        if unscale != 1.0:
            # The fused kernel unscaled the gradient it was given; its owner's becomes the same.
            for _, gradient in self._gradients:
                gradient.mul_(unscale)
        if self._known:
            self._finish_by_formula()
        for group, p in self._finish_at_once(self._copied):
            self._finish(group, p)
        self._known, self._copied = [], []

    def _scale_lr(self, group: Group, factor: float) -> None:
        lr = group["lr"]
        if isinstance(lr, Tensor):
            # A captured or compiled step holds this tensor: it is changed in place.
            self._lrs.append((group, lr.clone()))
            lr.mul_(factor)
        else:
            self._lrs.append((group, lr))
            group["lr"] = lr * factor

    def _buffer(self, p: Tensor, state: Group) -> Tensor:
        if "eg_delta" in state:
            return local(state["eg_delta"])
        if p not in self._scratch:
            self._scratch[p] = torch.empty_like(local(p))
        return self._scratch[p]

    def _finish(self, group: Group, p: Tensor) -> None:
        state, weight = self.optimizer.state[p], local(p)
        delta = self._buffer(p, state)
        log_scale = self._log_scale(group, state)
        gain = state.get("eg_log_gain") if self.gain_on == "update" else None
        decay = self._decay(group) if gain is not None else 0.0
        gained = None if gain is None else local(gain)
        finish_step(
            weight,
            delta,
            log_gain=gained,
            log_scale=log_scale,
            decay=decay,
            fused=self.fused,
            keep_delta=self.keep_delta,
        )
        if self.keep_delta and "eg_delta" not in state:
            state["eg_delta"] = torch.zeros_like(p)
            local(state["eg_delta"]).copy_(delta)
            del self._scratch[p]

    def _divided(self, touched: Touched) -> tuple[Touched, Touched]:
        """What has a gain on a step that Adam's averages tell, and what needs a copy to know it."""
        if not self._needs_delta:
            return [], []
        told = self.fused and self.gain_on == "update"
        told = told and not (self.scale_by_delta or self.keep_delta)
        groups = {
            id(group)
            for group in self.optimizer.param_groups
            if told and adam_formula(self.optimizer, group) and self._decay_apart(group)
        }
        known: Touched = []
        copied: Touched = []
        for group, p in touched:
            state = self.optimizer.state.get(p, {})
            gain = state.get("eg_log_gain")
            if id(group) not in groups or (
                gain is not None and not fits(p, gain, state["exp_avg"], state["exp_avg_sq"])
            ):
                copied.append((group, p))
            elif gain is not None:
                known.append((group, p))
        return known, copied

    def _decay_apart(self, group: Group) -> bool:
        return self.decouple_weight_decay or not decoupled_decay(self.optimizer, group)

    def _finish_by_formula(self) -> None:
        rows, numbers = [], []
        for group, p in self._known:
            state = self.optimizer.state[p]
            rows.append((p, state["eg_log_gain"], state["exp_avg"], state["exp_avg_sq"]))
            numbers.append(adam_step(group, float(state["step"])))
        fused_finish_adam(rows, numbers)

    def _finish_at_once(self, touched: Touched) -> Touched:
        """Finish what one call of the kernels can; returns the others."""
        if not self.fused or self.gain_on != "update" or self.keep_delta:
            return touched
        left: Touched = []
        rows, numbers = [], []
        for group, p in touched:
            state = self.optimizer.state[p]
            log_gain, delta = state.get("eg_log_gain"), self._buffer(p, state)
            if log_gain is None or not fits(p, delta, log_gain):
                left.append((group, p))
                continue
            rows.append((p, delta, log_gain))
            numbers.append((self._log_scale(group, state), self._decay(group)))
        if rows:
            fused_finish(rows, numbers, write=False)
        return left

    def _log_scale(self, group: Group, state: Group) -> float:
        if not self.scale_by_delta:
            return 0.0
        held = state["eg_log_scale"] if "eg_log_scale" in state else group.get("eg_log_scale")
        return 0.0 if held is None else float(held)

    def _decay(self, group: Group) -> float:
        if not self.decouple_weight_decay:
            return 0.0
        return decoupled_decay(self.optimizer, group) * float(group.get("lr", 0.0))
