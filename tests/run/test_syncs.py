"""What a training step reads back from the device: nothing but what is listed here, with its reason.

Whatever makes a tensor a Python number, a list or a host array stops the queue of a GPU. All of these
calls of whole training runs are counted on the CPU, by the place in the code that makes them.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import kexue_pl
from kexue_pl.run.train import train
from kexue_pl.testing.survival import COMMON, KGCLUE, MATCHING, MLM, MULTITASK
from tests.support.runs import composed

PACKAGE = Path(kexue_pl.__file__).parent
READS = {"item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__"}
OPERATIONS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::_unique2")
QUIET = (
    "trainer.max_epochs=1",
    "callbacks.best=null",
    "trainer.limit_val_batches=0",
    "trainer.val_check_interval=null",
    "trainer.limit_train_batches=null",
    "trainer.log_every_n_steps=1000",
    "callbacks.last.every_n_train_steps=1000",
    "scheduler=constant",
)


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
    """Counts the calls that a program makes itself."""

    def __init__(self, count: Counter[str]) -> None:
        super().__init__()
        self.count = count

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in READS:
            self.count[place()] += 1
        return func(*args, **(kwargs or {}))


class Operations(TorchDispatchMode):
    """Counts the operations, made by whomever, whose results have a size or value for the host."""

    def __init__(self, count: Counter[str]) -> None:
        super().__init__()
        self.count = count

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name in OPERATIONS:
            self.count[place()] += 1
        return func(*args, **(kwargs or {}))


def reads(folder: Path, steps: int, *words: str) -> Counter[str]:
    count: Counter[str] = Counter()
    config = composed(folder / str(steps), *COMMON, *words, *QUIET, f"trainer.max_steps={steps}")
    with Reads(count), Operations(count):
        train(config)
    return count


def a_step(folder: Path, *words: str) -> dict[str, float]:
    """Reads of one step by place: the difference between runs of 10 and 4 steps."""
    many, few = reads(folder, 10, *words), reads(folder, 4, *words)
    counts = {name: (many[name] - few[name]) / 6 for name in many}
    return {name: count for name, count in counts.items() if count and name != "torch.optim"}


def test_the_counter_counts() -> None:
    count: Counter[str] = Counter()
    with Reads(count), Operations(count):
        x = torch.arange(3.0)
        x.sum().item()
        bool(x[0] == 0)
        x[x > 1]
    assert sum(count.values()) >= 3


TASKS = {
    "matching": MATCHING,
    "mlm": MLM,
    "kgclue": KGCLUE,
    "multitask": (*MULTITASK, "balancer=equal"),
}


@pytest.mark.parametrize("name", TASKS)
def test_a_step_reads_nothing_else(tmp_path: Path, name: str) -> None:
    found = a_step(tmp_path, *TASKS[name])
    print(name, found)
    assert found == {}, str(found)
