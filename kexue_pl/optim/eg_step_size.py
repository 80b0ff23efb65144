"""Step sizes that learn: exponentiated gradient on a scale and on per-coordinate gains."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch.optim import Optimizer

from kexue_pl.optim.attached import AttachedStepSize
from kexue_pl.optim.families import refuse
from kexue_pl.optim.kernels import kernels
from kexue_pl.optim.rates import meta_rate

_CHOICES = {
    "scale": ("none", "global", "group", "tensor"),
    "gain": ("none", "coordinate"),
    "gain_on": ("auto", "gradient", "update"),
    "signal": ("average", "update"),
    "scale_rule": ("cosine", "sign", "raw"),
    "gain_rule": ("sign", "cosine", "raw"),
}
# A scale may travel ln(100) thirty times over at full agreement, because the cosine of a noisy
# gradient with its average is small; a gain's sign rule always moves at full rate, so once.
SCALE_REACH, SCALE_MOST = 138.0, 0.2
# Without momentum the average is longer and warns later of a scale that grows too large.
SCALE_MOST_BARE = 0.1
GAIN_REACH, GAIN_MOST = 4.6, 0.05
# Near the noise floor the cosine is -0.05 to -0.1 at good rates and at rates ten times larger alike:
# to shrink the step for it is to shrink a good step.
TOLERANCE = 0.12


class EGStepSize:
    r"""Settings of the adaptive step size; ``attach`` puts them on an optimizer.

    With :math:`d_t` the step the optimizer would make at its scheduled rate, the step made is

    .. math:: \theta_t=\theta_{t-1}+s_t\,p_t\odot d_t,\qquad
              \log s_t=\log s_{t-1}+\gamma_s\cos(g_t,\bar g_{t-1}),\qquad
              \log p_{t,i}=\log p_{t-1,i}+\gamma_p\,\mathrm{sign}(g_{t,i})\,\mathrm{sign}(\bar
              g_{t-1,i})

    with :math:`\bar g` the averaged direction the optimizer keeps (its momentum or first moment,
    else an own average of the gradient): steps that agree with the past grow, others shrink.
    A cosine in [-tolerance, 0] counts as 0, one below it as what it is below.
    These are exponentiated gradient steps on the hypergradients
    :math:`\partial L/\partial\log s=\langle g_t,d_{t-1}\rangle` and
    :math:`\partial L/\partial\log p_i=g_{t,i}d_{t-1,i}`. Both start at 1.

    Args:
        scale: one scale for the optimizer ("global"), per parameter group, per tensor, or "none".
        gain: one gain per coordinate, or "none".
        scale_lr: gamma_s >= 0, or "auto": min(138 / T, 0.2) (1 - t / T)^3 at step t of T; for
            an optimizer without momentum 0.1 in place of 0.2.
        gain_lr: gamma_p >= 0, or "auto": min(4.6 / T, 0.05) (1 - t / T)^3.
        horizon: T, optimizer steps of the run, for "auto".
        signal: "average" as above, or "update": the last step itself, one tensor more memory.
        gain_on: "gradient" (inside the momentum, as in the paper), "update", or "auto": update for
            Adam-like optimizers, where a gain on the gradient cancels.
        scale_rule: "cosine", "sign" of the inner product, or "raw": lr <g, average> or -<g,
            update>.
        gain_rule: "sign", "cosine" (n g_i d_i / |g||d|) or "raw" (g_i d_i).
        tolerance: of contradiction, for the rule "cosine", in [0, 1); "auto" is 0.12 beside a
            ``scale_lr`` of "auto" for an optimizer with momentum, else 0.
        beta: of the own average, in [0, 1); 0 is the previous gradient; "auto" is 0.9, but an
            average over T / 10 steps, 10 to 100, for an optimizer without momentum.
        scale_bounds: of s, positive.
        gain_bounds: of p, positive.
        decouple_weight_decay: keep decoupled decay (AdamW) out of the gains.
        fused: one pass over memory instead of several, by kernels that numba compiles (extra
            "fast"); for float32 on a CPU, all else takes the passes of torch.

    Raises:
        ValueError: naming the setting, its value and what is accepted.
        ModuleNotFoundError: if ``fused`` and numba is not installed.

    Source: https://kexue.fm/archives/8968; Amid et al., https://arxiv.org/abs/2202.00145.

    Example:
        >>> import torch
        >>> w = torch.nn.Parameter(torch.tensor([1.0]))
        >>> sgd = torch.optim.SGD([w], lr=0.1, momentum=0.9)
        >>> attached = EGStepSize(scale="global", scale_lr=0.5).attach(sgd)
        >>> for _ in range(3):
        ...     w.grad = torch.ones(1)
        ...     sgd.step()
        >>> round(attached.readings()["scale"], 4), sgd.param_groups[0]["lr"]   # e^(0.5 + 0.5)
        (2.7183, 0.1)
    """

    def __init__(
        self,
        *,
        scale: str = "global",
        gain: str = "none",
        scale_lr: float | str = "auto",
        gain_lr: float | str = "auto",
        horizon: int | None = None,
        signal: str = "average",
        gain_on: str = "auto",
        scale_rule: str = "cosine",
        gain_rule: str = "sign",
        tolerance: float | str = "auto",
        beta: float | str = "auto",
        scale_bounds: Sequence[float] = (1e-4, 1e4),
        gain_bounds: Sequence[float] = (1e-2, 1e2),
        decouple_weight_decay: bool = True,
        fused: bool = False,
    ) -> None:
        self.scale, self.gain, self.signal, self.gain_on = scale, gain, signal, gain_on
        self.scale_rule, self.gain_rule = scale_rule, gain_rule
        for name, accepted in _CHOICES.items():
            value = getattr(self, name)
            if value not in accepted:
                raise ValueError(
                    f"eg_step_size: {name}={value!r} is refused, accepted: {', '.join(accepted)}; "
                    f"set callbacks.eg_step_size.{name}={accepted[-1]}"
                )
        self.scale_lr = _rate("scale_lr", scale_lr)
        self.gain_lr = _rate("gain_lr", gain_lr)
        self.beta = _share("beta", beta)
        self.tolerance, self.horizon = _share("tolerance", tolerance), horizon
        self.log_scale_bounds = _log_bounds("scale_bounds", scale_bounds)
        self.log_gain_bounds = _log_bounds("gain_bounds", gain_bounds)
        self.decouple_weight_decay, self.fused = decouple_weight_decay, fused
        if fused:
            kernels()

    def attach(self, optimizer: Optimizer, *, horizon: int | None = None) -> AttachedStepSize:
        """Adapt the steps of ``optimizer`` from now on, until ``detach`` of what is returned.

        Args:
            optimizer: any ``torch.optim.Optimizer`` but LBFGS, SparseAdam and DeepSpeed's.
            horizon: T, where the constructor was given none.

        Raises:
            TypeError: for an optimizer that cannot be wrapped.
            ValueError: if the optimizer is adapted already, or an "auto" rate has no horizon.
        """
        refuse(optimizer)
        attached = AttachedStepSize(self, optimizer, horizon=self.horizon or horizon)
        self.rates(0, attached.horizon)
        attached.start()
        return attached

    def rates(
        self, step: int, horizon: int | None, *, momentum: bool = True
    ) -> tuple[float, float]:
        """(gamma_s, gamma_p) at a step; 0 for a part that is "none".

        Args:
            step: updates done.
            horizon: T, where known.
            momentum: whether the optimizer has any; without, "auto" is at most half as large.

        Example:
            >>> EGStepSize(gain="coordinate").rates(0, 1000)
            (0.138, 0.0046)
        """
        scale = gain = 0.0
        most = SCALE_MOST if momentum else SCALE_MOST_BARE
        if self.scale != "none":
            scale = meta_rate(
                self.scale_lr, step=step, horizon=horizon, reach=SCALE_REACH, most=most
            )
        if self.gain != "none":
            gain = meta_rate(
                self.gain_lr, step=step, horizon=horizon, reach=GAIN_REACH, most=GAIN_MOST
            )
        return scale, gain

    def tolerated(self, *, momentum: bool) -> float:
        """How far below 0 a cosine may be and still count as 0.

        Args:
            momentum: whether the optimizer has any.

        Example:
            >>> EGStepSize().tolerated(momentum=True), EGStepSize(scale_lr=0.1).tolerated(momentum=True)
            (0.12, 0.0)
        """
        if not isinstance(self.tolerance, str):
            return self.tolerance
        return TOLERANCE if momentum and self.scale_lr == "auto" else 0.0


def _share(name: str, value: float | str) -> float | str:
    if value == "auto" or (not isinstance(value, str) and 0 <= value < 1):
        return value
    raise ValueError(
        f"eg_step_size: {name}={value!r} is refused, a number in [0, 1) or 'auto' is expected; "
        f"set callbacks.eg_step_size.{name}=auto"
    )


def _rate(name: str, value: float | str) -> float | str:
    if value == "auto" or (not isinstance(value, str) and 0 <= value < math.inf):
        return value
    raise ValueError(
        f"eg_step_size: {name}={value!r} is refused, a number >= 0 or 'auto' is expected; "
        f"set callbacks.eg_step_size.{name}=auto"
    )


def _log_bounds(name: str, bounds: Sequence[float]) -> tuple[float, float]:
    low, high = (float(b) for b in bounds)
    if not 0 < low <= 1 <= high < math.inf:
        raise ValueError(
            f"eg_step_size: {name}={[low, high]} is refused, 0 < low <= 1 <= high is expected; "
            f"set callbacks.eg_step_size.{name}=[0.01,100]"
        )
    return math.log(low), math.log(high)
