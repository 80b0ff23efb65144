"""Let an optimizer's own state tensors keep their dtype when a state dict is loaded."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle


def keep_dtype(optimizer: Optimizer, prefix: str) -> list[RemovableHandle]:
    """Restore entries named ``prefix...`` as they were saved.

    ``Optimizer.load_state_dict`` casts every floating-point entry to the dtype of its parameter: a
    float32 logarithm of a bfloat16 parameter would lose what it learnt.

    Returns:
        the handles of the two hooks.

    Example:
        >>> import torch
        >>> w = torch.nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
        >>> sgd = torch.optim.SGD([w])
        >>> sgd.state[w]["eg_x"] = torch.tensor([0.1])
        >>> saved, handles = sgd.state_dict(), keep_dtype(sgd, "eg_")
        >>> sgd.load_state_dict(saved)
        >>> sgd.state[w]["eg_x"]
        tensor([0.1000])
    """
    stash: dict[int, dict[str, Tensor]] = {}

    def before(_: Optimizer, state_dict: dict[str, Any]) -> None:
        stash.clear()
        index = [i for group in state_dict["param_groups"] for i in group["params"]]
        for position, key in enumerate(index):
            entries = state_dict["state"].get(key, {})
            kept = {
                name: value
                for name, value in entries.items()
                if isinstance(name, str) and name.startswith(prefix) and isinstance(value, Tensor)
            }
            if kept:
                stash[position] = kept

    def after(loaded: Optimizer) -> None:
        parameters = [p for group in loaded.param_groups for p in group["params"]]
        for position, kept in stash.items():
            state = loaded.state[parameters[position]]
            for name, value in kept.items():
                if state[name].dtype != value.dtype:
                    state[name] = value.detach().clone().to(state[name].device)
        stash.clear()

    return [
        optimizer.register_load_state_dict_pre_hook(before),
        optimizer.register_load_state_dict_post_hook(after),
    ]
