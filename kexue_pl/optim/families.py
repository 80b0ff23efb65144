"""What must be known of an optimizer before its step size is adapted from outside."""

from __future__ import annotations

from typing import Any

from torch.optim import Adam, AdamW, Optimizer

# One step of these is proportional to the learning rate, so a scale of the rate scales the step.
_LINEAR = "SGD Adam AdamW NAdam RAdam Adamax Adagrad RMSprop Adadelta Muon Lion ASGD"
LINEAR = frozenset(_LINEAR.split(" "))
# A step of these is proportional to the gradient; Adam's is not, so a gain on its gradient cancels.
_KEEPS_GRADIENT_SCALE = frozenset(("SGD", "ASGD", "EGD"))
_DECOUPLED = frozenset(("AdamW", "Muon", "Adafactor", "Lion"))
_BUFFERS = ("momentum_buffer", "exp_avg")


def refuse(optimizer: Optimizer) -> None:
    """Raise for optimizers whose step cannot be wrapped.

    Raises:
        TypeError: for LBFGS (many evaluations a step), SparseAdam, sharding wrappers and DeepSpeed.

    Example:
        >>> import torch
        >>> refuse(torch.optim.LBFGS([torch.nn.Parameter(torch.ones(1))]))
        Traceback (most recent call last):
        ...
        TypeError: eg_step_size: LBFGS evaluates the loss several times in one step and ...
    """
    kind = type(optimizer)
    reason = {
        "LBFGS": "evaluates the loss several times in one step and searches its own step length",
        "SparseAdam": "has sparse gradients, whose alignment this callback does not compute",
        "ZeroRedundancyOptimizer": "keeps its state in an inner optimizer; use FSDP instead",
    }.get(kind.__name__)
    if kind.__module__.startswith("deepspeed"):
        reason = "is DeepSpeed's, which runs no step hooks of torch; use strategy ddp or fsdp"
    if not isinstance(optimizer, Optimizer) and reason is None:
        reason = "is no torch.optim.Optimizer, so it has no step hooks"
    if reason is not None:
        raise TypeError(
            f"eg_step_size: {kind.__name__} {reason}; choose another optimizer (optimizer=adamw, "
            "optimizer=sgd) or drop the callback"
        )


def linear_in_lr(optimizer: Optimizer) -> bool:
    """Whether a step is proportional to ``group["lr"]``; others are rescaled after the step.

    Example:
        >>> import torch
        >>> weight = [torch.nn.Parameter(torch.ones(1))]
        >>> linear_in_lr(torch.optim.SGD(weight)), linear_in_lr(torch.optim.Rprop(weight))
        (True, False)
    """
    return type(optimizer).__name__ in LINEAR and all("lr" in g for g in optimizer.param_groups)


def gain_place(optimizer: Optimizer) -> str:
    """Where a gain acts by default: "gradient" for SGD, "update" where a gain there would cancel.

    Example:
        >>> import torch
        >>> gain_place(torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))]))
        'update'
    """
    return "gradient" if type(optimizer).__name__ in _KEEPS_GRADIENT_SCALE else "update"


def decoupled_decay(optimizer: Optimizer, group: dict[str, Any]) -> float:
    """The weight decay a step subtracts as ``lr * decay * theta``; 0 for decay inside the gradient.

    Example:
        >>> import torch
        >>> adamw = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))], weight_decay=0.1)
        >>> decoupled_decay(adamw, adamw.param_groups[0])
        0.1
    """
    flag = group.get("decoupled_weight_decay", type(optimizer).__name__ in _DECOUPLED)
    return float(group.get("weight_decay", 0.0)) if flag else 0.0


def adam_formula(optimizer: Optimizer, group: dict[str, Any]) -> bool:
    """Whether ``adam_step`` tells the steps of a group: torch's Adam and AdamW, without AMSGrad.

    Example:
        >>> import torch
        >>> weight = [torch.nn.Parameter(torch.ones(1))]
        >>> [adam_formula(o, o.param_groups[0]) for o in (AdamW(weight), torch.optim.NAdam(weight))]
        [True, False]
    """
    return type(optimizer) in (Adam, AdamW) and not group["amsgrad"]


def adam_step(group: dict[str, Any], step: float) -> tuple[float, float, float]:
    r"""(a, b, eps) of :math:`-a\,m/(b\sqrt v+\epsilon)`: step t of Adam, without decoupled decay.

    :math:`a=\eta/(1-\beta_1^t)`, :math:`b=1/\sqrt{1-\beta_2^t}`; m and v are the averages after the
    step, eta is the present rate of the group.

    Example:
        >>> import torch
        >>> w = [torch.nn.Parameter(torch.ones(1))]
        >>> adam_step(Adam(w, lr=0.1, betas=(0.5, 0.75)).param_groups[0], 1.0)
        (0.2, 2.0, 1e-08)
    """
    first, second = (float(beta) ** step for beta in group["betas"])
    return float(group["lr"]) / (1 - first), (1 - second) ** -0.5, float(group["eps"])


def has_momentum(optimizer: Optimizer) -> bool:
    """Whether a gradient's share of the step is spread over later steps, in every group.

    Example:
        >>> import torch
        >>> weight = [torch.nn.Parameter(torch.ones(1))]
        >>> has_momentum(torch.optim.Adam(weight)), has_momentum(torch.optim.SGD(weight))
        (True, False)
    """
    return all("betas" in g or g.get("momentum", 0) > 0 for g in optimizer.param_groups)


def average_gradient(state: dict[str, Any]) -> Any:
    """The averaged gradient (or update) an optimizer keeps in the state of a parameter, or None.

    Example:
        >>> average_gradient({"momentum_buffer": None}) is None
        True
    """
    for key in _BUFFERS:
        if state.get(key) is not None:
            return state[key]
    return None
