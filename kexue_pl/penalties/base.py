"""What a penalty is to a training step: it makes the loss to backpropagate from the plain one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

Closure = Callable[[], Tensor]


class Penalty:
    """Base of every penalty: ``loss`` replaces the plain loss, ``after_backward`` puts back what it
    moved.

    Attributes:
        value: the last penalty (or adversarial loss) as a detached 0-d tensor, for logging;
            ``None`` before the first step.

    Example:
        >>> import torch
        >>> Penalty().loss(lambda: torch.tensor(2.0), parameters=[], embeddings=None)
        tensor(2.)
    """

    value: Tensor | None = None

    def loss(
        self, closure: Closure, *, parameters: Sequence[nn.Parameter], embeddings: nn.Module | None
    ) -> Tensor:
        """Return the total loss to backpropagate; the base class returns the plain loss.

        Args:
            closure: computes the plain training loss of the current batch, 0-d, each time it is
                called.
            parameters: the trained parameters.
            embeddings: the module whose output counts as the input of the network (an
                ``nn.Embedding``, or an ``nn.Identity`` that real-valued inputs pass through);
                ``None`` if there is none.
        """
        del parameters, embeddings
        return closure()

    def after_backward(self) -> None:
        """Undo what ``loss`` did to the weights; called after backward, before clipping."""


def check_positive(owner: str, **values: float) -> None:
    """Raise ``ValueError`` naming the first setting that is not a positive finite number.

    Example:
        >>> check_positive("fgm", epsilon=-1.0)
        Traceback (most recent call last):
        ...
        ValueError: penalty fgm: epsilon=-1.0 is refused, a number > 0 is expected; set
            penalty.epsilon=...
    """
    for name, value in values.items():
        if not 0 < value < float("inf"):
            raise ValueError(
                f"penalty {owner}: {name}={value} is refused, a number > 0 is expected; set "
                f"penalty.{name}=..."
            )


def check_choice(owner: str, name: str, value: str, accepted: Sequence[str]) -> None:
    """Raise ``ValueError`` unless ``value`` is one of ``accepted``.

    Example:
        >>> check_choice("vat", "divergence", "l2", ("kl", "mse"))
        Traceback (most recent call last):
        ...
        ValueError: penalty vat: divergence='l2' is refused, accepted: kl, mse; set
            penalty.divergence=kl
    """
    if value not in accepted:
        raise ValueError(
            f"penalty {owner}: {name}={value!r} is refused, accepted: {', '.join(accepted)}; "
            f"set penalty.{name}={accepted[0]}"
        )


def require_embeddings(owner: str, embeddings: nn.Module | None) -> nn.Module:
    """Return ``embeddings`` or raise: this penalty acts on the input of the network.

    Raises:
        ValueError: if the task has no input embedding.
    """
    if embeddings is None:
        raise ValueError(
            f"penalty {owner}: the task has no input embedding to act on (task.embeddings() is "
            "None); "
            "use penalty=parameter_gradient, penalty=sam or penalty=flooding, or pass real-valued "
            "inputs "
            "through an nn.Identity and return it from embeddings()"
        )
    return embeddings
