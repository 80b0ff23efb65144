"""Where the gradients of the tasks come from: articles 8896 and 8907.

``fan_out`` balances at the shared encoding in one ordinary backward, ``task_gradients`` at the shared
parameters exactly; both give every rule of :mod:`kexue_pl.balancers` the Gram of the joint batch of
all ranks.
"""

from __future__ import annotations

from kexue_pl.gradients.chosen import chosen_parameters
from kexue_pl.gradients.decay import decay_as_task
from kexue_pl.gradients.fan_out import FanOut, fan_out
from kexue_pl.gradients.gram import gram_matrix
from kexue_pl.gradients.losses import GlobalLosses, global_losses, scaled
from kexue_pl.gradients.task_gradients import TaskGradients, task_gradients
from kexue_pl.gradients.window import window_backward

__all__ = [
    "FanOut",
    "GlobalLosses",
    "TaskGradients",
    "chosen_parameters",
    "decay_as_task",
    "fan_out",
    "global_losses",
    "gram_matrix",
    "scaled",
    "task_gradients",
    "window_backward",
]
