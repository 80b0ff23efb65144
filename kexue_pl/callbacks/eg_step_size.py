"""The adaptive step size of article 8968 as a Lightning callback."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L

from kexue_pl.optim import AttachedStepSize
from kexue_pl.optim import EGStepSize as StepSize


class EGStepSize(StepSize, L.Callback):
    """Adapt the steps of every optimizer of a module; ``attach`` works without Lightning.

    It wraps the optimizers that ``configure_optimizers`` returned, under automatic and manual
    optimization alike, and sees the final gradient: accumulated, reduced, unscaled and clipped.
    What it learns lives in the optimizers' states, so checkpoints resume bitwise and load with
    and without the callback. Schedules are untouched: the step is made at ``lr * scale``.

    Args:
        plot: draw the scale over time to ``plots/eg_scale.png`` of the run when the fit ends.

    All other arguments are those of ``kexue_pl.optim.EGStepSize``; ``horizon`` defaults to the
    ``total_steps`` of the module, else to the trainer's number of optimizer steps.

    Logged every ``log_every_n_steps``: ``eg/scale``, ``eg/effective_lr``, ``eg/cos``,
    ``eg/gain_q10``, ``eg/gain_q50``, ``eg/gain_q90`` (with several optimizers ``eg/0/...``).

    Raises:
        TypeError: under DeepSpeed, and for optimizers that cannot be wrapped.
        ValueError: if a rate is "auto" and the number of steps is not known.

    Source: https://kexue.fm/archives/8968; https://arxiv.org/abs/2202.00145.

    Example:
        >>> EGStepSize(scale="global", gain="coordinate", scale_lr=0.1, gain_lr=0.01).rates(0, None)
        (0.1, 0.01)
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
        plot: bool = True,
    ) -> None:
        super().__init__(
            scale=scale,
            gain=gain,
            scale_lr=scale_lr,
            gain_lr=gain_lr,
            horizon=horizon,
            signal=signal,
            gain_on=gain_on,
            scale_rule=scale_rule,
            gain_rule=gain_rule,
            tolerance=tolerance,
            beta=beta,
            scale_bounds=scale_bounds,
            gain_bounds=gain_bounds,
            decouple_weight_decay=decouple_weight_decay,
            fused=fused,
        )
        self.plot = plot
        self.history: list[dict[str, float]] = []
        self._attached: list[AttachedStepSize] = []

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Attach to every optimizer, before Lightning restores their states."""
        if "DeepSpeed" in type(trainer.strategy).__name__:
            raise TypeError(
                "eg_step_size: DeepSpeed's engine makes the step itself and runs no hooks of the "
                "optimizer; use accelerator=ddp or accelerator=fsdp, or drop the callback"
            )
        self._detach()
        horizon = self.horizon or _horizon(trainer, pl_module)
        self._attached = [self.attach(o, horizon=horizon) for o in trainer.optimizers]

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Log the readings of every optimizer."""
        step = trainer.global_step
        every: int = getattr(trainer, "log_every_n_steps", 50)
        if not step or step % max(1, every):
            return
        if self.history and self.history[-1]["step"] == step:
            return
        row: dict[str, float] = {"step": step}
        for index, attached in enumerate(self._attached):
            prefix = f"eg/{index}" if len(self._attached) > 1 else "eg"
            row |= {f"{prefix}/{name}": value for name, value in attached.readings().items()}
        self.history.append(row)
        values = {name: value for name, value in row.items() if name != "step"}
        pl_module.log_dict(values, batch_size=1, rank_zero_only=True)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Detach, and draw the scale over time."""
        self._detach()
        if self.plot and trainer.is_global_zero and len(self.history) > 1:
            self.draw(Path(trainer.default_root_dir) / "plots" / "eg_scale.png")

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Detach, which puts back what a broken step left changed."""
        self._detach()

    def state_dict(self) -> dict[str, Any]:
        """The history, so that the plot of a resumed run is whole."""
        return {"history": [dict(row) for row in self.history]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the history of the run before."""
        self.history = [dict(row) for row in state_dict["history"]]

    def draw(self, path: Path) -> Path:
        """Draw scale and cosine over the optimizer's steps; returns the file."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 4), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True)
        for name in self.history[-1]:
            last = name.rsplit("/", 1)[-1]
            if last not in ("scale", "scale_min", "scale_max", "cos"):
                continue
            known = [row for row in self.history if name in row]
            axis = below if last == "cos" else above
            axis.plot([r["step"] for r in known], [r[name] for r in known], label=name)
        above.set_yscale("log")
        above.set_ylabel("scale of the step")
        below.set_ylabel("cosine with the average")
        below.set_xlabel("optimizer step")
        below.axhline(0, color="grey", linewidth=0.5)
        above.legend()
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120)
        return path

    def _detach(self) -> None:
        for attached in self._attached:
            attached.detach()
        self._attached = []


def _horizon(trainer: L.Trainer, pl_module: L.LightningModule) -> int | None:
    """Optimizer steps of the whole run; None where nobody can know them.

    A task that accumulates by hand knows better than the trainer, which counts batches then.
    """
    known = getattr(pl_module, "total_steps", 0)
    if isinstance(known, int) and known > 0:
        return known
    steps = trainer.estimated_stepping_batches
    return int(steps) if math.isfinite(steps) and steps > 0 else None
