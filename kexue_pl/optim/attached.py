"""An adaptive step size at work on one optimizer, through its step hooks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from kexue_pl.optim.alignment import local
from kexue_pl.optim.families import gain_place, linear_in_lr
from kexue_pl.optim.keep_dtype import keep_dtype
from kexue_pl.optim.meta_learner import MetaLearner
from kexue_pl.optim.step_scaler import StepScaler

if TYPE_CHECKING:
    from kexue_pl.optim.eg_step_size import EGStepSize

_MARK = "_eg_step_size"
# Quantiles of the gains are read off at most this many coordinates a tensor.
_SAMPLE = 4096


class AttachedStepSize:
    """Created by ``EGStepSize.attach``; everything it learns lives in the optimizer.

    Tensors stand in ``optimizer.state[p]["eg_*"]``, numbers in the parameter groups
    (``eg_log_scale``, ``eg_step``): checkpoints and sharded checkpoints carry them, and an
    optimizer state loads with and without this object.

    When the step gets a closure, forward and backward run inside ``step`` (Lightning's automatic
    optimization does that): the closure is wrapped and the gradient read after it ran, when it is
    final, that is reduced over ranks, unscaled and clipped.

    Attributes:
        optimizer: the wrapped optimizer.
        horizon: T of "auto" rates, or None.

    Example:
        >>> from kexue_pl.optim import EGStepSize
        >>> w = torch.nn.Parameter(torch.ones(1))
        >>> attached = EGStepSize(scale_lr=0.1).attach(torch.optim.SGD([w], lr=0.1))
        >>> attached.readings()
        {'scale': 1.0, 'effective_lr': 0.1, 'cos': 0.0}
    """

    def __init__(self, settings: EGStepSize, optimizer: Optimizer, *, horizon: int | None) -> None:
        self.settings, self.optimizer, self.horizon = settings, optimizer, horizon
        place = gain_place(optimizer) if settings.gain_on == "auto" else settings.gain_on
        gain_on = place if settings.gain == "coordinate" else None
        by_lr = settings.scale in ("global", "group") and linear_in_lr(optimizer)
        self._learner = MetaLearner(
            settings, optimizer, gain_on_gradient=gain_on == "gradient", horizon=horizon
        )
        self._scaler = StepScaler(
            optimizer,
            scale_by_lr=by_lr,
            scale_by_delta=settings.scale != "none" and not by_lr,
            gain_on=gain_on,
            keep_delta=settings.signal == "update",
            decouple_weight_decay=settings.decouple_weight_decay,
            fused=settings.fused,
        )
        self._handles: list[Any] = []
        self._touched: list[tuple[dict[str, Any], Tensor]] = []
        self._pending, self._skip, self._unscale = False, False, 1.0

    def start(self) -> None:
        """Register the hooks.

        Raises:
            ValueError: if another step size is attached to the optimizer.
        """
        if getattr(self.optimizer, _MARK, None) is not None:
            raise ValueError(
                "eg_step_size: this optimizer's step size is adapted already; detach() it first "
                "or keep one of the callbacks"
            )
        setattr(self.optimizer, _MARK, self)
        self._handles = [
            self.optimizer.register_step_pre_hook(self._before),
            self.optimizer.register_step_post_hook(self._after),
            *keep_dtype(self.optimizer, "eg_"),
        ]

    def detach(self) -> None:
        """Take the hooks away; rates and gradients are as the optimizer's owner set them."""
        self.restore()
        for handle in self._handles:
            handle.remove()
        self._handles = []
        setattr(self.optimizer, _MARK, None)

    def restore(self) -> None:
        """Put back what a step changed for its duration; needed only if the step raised."""
        self._scaler.restore()
        self._pending = False

    def _before(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        self.restore()
        closure: Callable[[], Any] | None = kwargs.get("closure", args[1] if args[1:] else None)
        if closure is None:
            self._adapt()
            return None

        def wrapped() -> Any:
            loss = closure()
            self._adapt()
            return loss

        if args[1:]:
            return (args[0], wrapped, *args[2:]), kwargs
        return args, {**kwargs, "closure": wrapped}

    @torch.no_grad()
    def _adapt(self) -> None:
        if self._pending:
            raise RuntimeError(
                f"eg_step_size: {type(self.optimizer).__name__} evaluated the closure twice in "
                "one step; such an optimizer cannot be adapted, drop the callback"
            )
        self._pending = True
        groups = self.optimizer.param_groups
        self._touched = [(g, p) for g in groups for p in g["params"] if p.grad is not None]
        if any(p.grad is not None and p.grad.is_sparse for _, p in self._touched):
            raise TypeError("eg_step_size: sparse gradients are refused; use sparse=False")
        self._read_grad_scaler()
        if not self._skip:
            step, momentum = groups[0].get("eg_step", 0), self._learner.momentum
            rates = self.settings.rates(step, self.horizon, momentum=momentum)
            self._learner.learn(self._touched, rates=rates, unscale=self._unscale)
        self._scaler.before(self._touched)

    def _read_grad_scaler(self) -> None:
        """A fused optimizer is stepped with scaled gradients, and even if they overflowed."""
        found_inf = getattr(self.optimizer, "found_inf", None)
        grad_scale = getattr(self.optimizer, "grad_scale", None)
        self._skip = found_inf is not None and bool(found_inf.item())
        self._unscale = 1.0 if grad_scale is None else 1.0 / float(grad_scale)

    @torch.no_grad()
    def _after(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self._pending:
            return
        if not self._skip:
            self._scaler.after(unscale=self._unscale)
        self.restore()
        if self._skip:
            return
        self._learner.remember(self._touched)
        for group in self.optimizer.param_groups:
            group["eg_step"] = group.get("eg_step", 0) + 1

    def log_scales(self) -> list[float]:
        """The logarithms of all scales: one, one a group, or one a tensor."""
        if self.settings.scale == "tensor":
            states = self.optimizer.state.values()
            return [float(s["eg_log_scale"]) for s in states if "eg_log_scale" in s]
        return [float(g.get("eg_log_scale", 0.0)) for g in self.optimizer.param_groups]

    def readings(self) -> dict[str, float]:
        """What to log: scale, effective learning rate, cosine, quantiles of the gains.

        Several scales are reported by their geometric mean (``scale``) and range; the effective
        rate is the first group's. Quantiles are over evenly spaced coordinates of each tensor.
        """
        logs = self.log_scales() or [0.0]
        scale = math.exp(math.fsum(logs) / len(logs))
        lr = float(self.optimizer.param_groups[0].get("lr", 1.0))
        first = math.exp(logs[0]) if self.settings.scale == "group" else scale
        found = {"scale": scale, "effective_lr": lr * first, "cos": self._learner.cosine}
        if self.settings.scale in ("group", "tensor"):
            found |= {"scale_min": math.exp(min(logs)), "scale_max": math.exp(max(logs))}
        return found | self._gain_quantiles()

    def _gain_quantiles(self) -> dict[str, float]:
        sampled = []
        for state in self.optimizer.state.values():
            if "eg_log_gain" in state:
                flat = local(state["eg_log_gain"]).flatten()
                sampled.append(flat[:: max(1, flat.numel() // _SAMPLE)].float().cpu())
        if not sampled:
            return {}
        points = torch.tensor([0.1, 0.5, 0.9])
        values = torch.cat(sampled).sort().values
        places = (points * (len(values) - 1)).round().long()
        low, middle, high = values[places].exp().tolist()
        return {"gain_q10": low, "gain_q50": middle, "gain_q90": high}
