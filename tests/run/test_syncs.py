"""What a training step reads back from the device: nothing but what is listed here, with its reason.

Whatever makes a tensor a Python number, a list or a host array stops the queue of a GPU. There is none
here; a tensor on the device "meta" has no values either, so that every read of one shows. A step of
each task is made there, forward, backward, guard, clipping and update, and its reads are counted by the
place in the code that makes them. What Lightning and the callbacks read is counted in whole runs on the CPU.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

import kexue_pl
from kexue_pl.callbacks.nonfinite_guard import all_finite
from kexue_pl.run.train import assemble, set_total_steps, train
from kexue_pl.testing.survival import COMMON, KGCLUE, MATCHING, MLM, MULTITASK
from tests.support.runs import composed

PACKAGE = Path(kexue_pl.__file__).parent
NUMBERS: dict[str, Any] = {
    "item": 1.0, "__float__": 1.0, "__int__": 1, "__index__": 1, "__bool__": True,
}  # fmt: skip
ARRAYS = ("cpu", "numpy", "tolist")
SIZES = ("nonzero", "masked_select", "unique", "bincount", "equal")


def place() -> str:
    """The innermost function of this package or of Lightning that is running; "" outside of both."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(PACKAGE):
            return f"{path.relative_to(PACKAGE)}:{frame.f_code.co_name}"
        if "torch/optim" in path.as_posix():
            return "torch.optim"  # its step counters are tensors on the host
        if "lightning/pytorch" in path.as_posix():
            return f"lightning/{path.name}:{frame.f_code.co_name}"
        frame = frame.f_back
    return ""


class Reads(TorchFunctionMode):
    """Counts reads of tensors on `device`, and gives a value for those that have none."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device, self.count = device, Counter[str]()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, first = getattr(func, "__name__", ""), args[0] if args else None
        kwargs = kwargs or {}
        here = isinstance(first, Tensor) and first.device.type == self.device
        moved = name == "to" and "cpu" in [str(a) for a in (*args[1:], *kwargs.values())]
        moved = moved and self.device != "cpu"
        masked = name == "__getitem__" and here and _is_mask(args[1])
        if not here or not (name in (*NUMBERS, *ARRAYS, *SIZES) or moved or masked):
            return func(*args, **kwargs)
        self.count[place()] += 1
        if self.device != "meta":
            return func(*args, **kwargs)
        if name in NUMBERS:
            return NUMBERS[name]
        if name in ARRAYS or moved:
            values = torch.ones(first.shape, dtype=first.dtype)
            return getattr(values, name)() if name in ARRAYS else values
        if masked and isinstance(args[1], Tensor):
            return first.flatten(0, args[1].ndim - 1)[:1]  # one row, as good as any other number
        raise AssertionError(f"{name}, of a size that only the device knows, at {place()}")


def _is_mask(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, Tensor) and part.dtype == torch.bool for part in parts)


def test_the_counter_counts() -> None:
    with Reads("meta") as reads:
        x = torch.arange(3.0, device="meta")
        float(x.sum())
        x.tolist()
        x.to("cpu")
        if x[0] == 0:
            x.cpu()
        torch.ones(2).tolist()
        assert x[x > 1].shape == (1,)
        with pytest.raises(AssertionError, match="only the device knows"):
            x.nonzero()
    assert sum(reads.count.values()) == 7


TASKS = {
    "matching": MATCHING,
    "mlm": MLM,
    "kgclue": KGCLUE,
    "kgclue constrained": (*KGCLUE, "task.constrained=1", "task.lexical=0"),
    "multitask": (*MULTITASK, "balancer=equal"),
}
GUARD = {"callbacks/nonfinite_guard.py:all_finite": 1}
"""Whether a gradient is finite must be known before the step is made."""
ALLOWED: dict[str, dict[str, int]] = {
    "matching": {},
    # The head over the vocabulary runs on the hidden tokens alone: which rows, and which labels.
    "mlm": {"models/masked_lm.py:forward": 1, "tasks/mlm.py:predict": 1},
    # It also runs on the positions before a key token alone: the longest question, the longest key.
    "kgclue": {"models/unilm_model.py:_places": 2},
    "kgclue constrained": {"models/unilm_model.py:_places": 1},
    # Of each of the two tasks: how many rows have labels (asked twice), which, and their labels;
    # then the losses, in one transfer: rules that weigh them work on the host.
    "multitask": {
        "tasks/heads.py:count": 2, "tasks/heads.py:loss": 6, "gradients/losses.py:_numbers": 1,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", TASKS)
def test_a_step_reads_nothing_else(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *a, **k: contextlib.nullcontext())  # not of meta
    config = composed(tmp_path, *COMMON, *TASKS[name])
    data, task = assemble(config)
    set_total_steps(config, task, data)
    task.on_fit_start()
    batch = {key: value.to("meta") for key, value in next(iter(data.train_dataloader())).items()}
    task.to("meta")
    made = task.configure_optimizers()
    optimizer = made["optimizer"] if isinstance(made, dict) else made
    with Reads("meta") as reads:
        if task.automatic_optimization:
            task.loss(batch).backward()
        else:
            task.run_backward = lambda loss, last=True: loss.backward()
            task.window_gradients([batch])
        assert all_finite([p.grad for p in task.parameters() if p.grad is not None])
        torch.nn.utils.clip_grad_norm_(task.parameters(), 1.0)
        optimizer.step()
    assert dict(reads.count) == GUARD | ALLOWED[name], dict(reads.count)


def outside_of_tasks(folder: Path, steps: int) -> Counter[str]:
    """Reads of a run's loop and callbacks; a task's own differ from those on a GPU."""
    words = (*MATCHING, "trainer.max_epochs=1", "callbacks.best=null", "scheduler=constant")
    words += ("trainer.limit_val_batches=0", "trainer.val_check_interval=null")
    words += ("trainer.log_every_n_steps=1000", "callbacks.last.every_n_train_steps=1000")
    with Reads("cpu") as reads:
        train(composed(folder / str(steps), *COMMON, *words, f"trainer.max_steps={steps}"))
    apart = ("losses/", "models/", "metrics/", "data/", "torch.optim")
    return Counter({n: c for n, c in reads.count.items() if n and not n.startswith(apart)})


def test_the_loop_reads_nothing_else(tmp_path: Path) -> None:
    more = outside_of_tasks(tmp_path, 10) - outside_of_tasks(tmp_path, 4)
    assert more == {"callbacks/nonfinite_guard.py:all_finite": 6}, more
