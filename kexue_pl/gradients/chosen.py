"""Parameters chosen by module or by the pattern of their names."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn


def chosen_parameters(module: nn.Module, patterns: Sequence[str] = ("*",)) -> list[nn.Parameter]:
    """The trainable parameters of a module whose names match any of the patterns, in its order.

    GradNorm and others read the gradients of the last shared layer alone: cheaper to keep, and where
    the tasks part.

    Args:
        module: the model, or the part of it that the tasks share.
        patterns: shell patterns of names as in ``named_parameters``; ``*`` also matches dots, and a
            pattern that ends before a dot means all below it.

    Raises:
        ValueError: naming a pattern that matches nothing, and some names that there are.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    >>> [tuple(p.shape) for p in chosen_parameters(net, ["1", "0.b*"])]
    [(3,), (1, 3), (1,)]
    """
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]

    def matches(name: str, pattern: str) -> bool:
        return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")

    for pattern in patterns:
        if not any(matches(name, pattern) for name, _ in named):
            known = ", ".join(name for name, _ in named[:5])
            raise ValueError(
                f"no trainable parameter is called {pattern!r}; there are {known}, ..."
            )
    return [p for name, p in named if any(matches(name, pattern) for pattern in patterns)]
