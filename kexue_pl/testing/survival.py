"""Hit a run again and again, resume it each time, and compare its end with a run left in peace."""

from __future__ import annotations

import functools
import hashlib
import json
import random
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from kexue_pl.run.checkpoint_io import newest_sound, read
from kexue_pl.testing.command import Done, start_ranks
from kexue_pl.testing.kill_at import PLACES

__all__ = [
    "CASES",
    "MORE",
    "Case",
    "Fault",
    "Survival",
    "draw_faults",
    "final_state",
    "run",
    "survive",
]


@dataclass(frozen=True)
class Case:
    """A small run of a real task.

    Args:
        words: overrides of `train.py`.
        ranks: processes, joined as torchrun joins them.
        accelerator: of several ranks.
    """

    words: tuple[str, ...]
    ranks: int = 1
    accelerator: str = "ddp_cpu"


@dataclass(frozen=True)
class Fault:
    """A signal at a place of a run; see `KillAt`."""

    batch: int
    number: str = "SIGKILL"
    where: str = "start"
    only: int = -1

    def node(self) -> dict[str, Any]:
        """The callback that a run is given."""
        return {"_target_": "kexue_pl.testing.kill_at.KillAt", **asdict(self)}


@dataclass
class Survival:
    """What came of a run that was hit.

    Args:
        faults: the faults that did hit.
        sound: how often a sound checkpoint was there after the fault.
        lost: optimizer steps that had to be made again, a fault each.
        equal: the final weights and optimizer state are bitwise those of the undisturbed run.
        codes: exit codes of the first rank, a fault each.
    """

    faults: list[Fault] = field(default_factory=list)
    sound: int = 0
    lost: list[int] = field(default_factory=list)
    equal: bool = False
    codes: list[int] = field(default_factory=list)


HERE, CACHE = "/run-folder", "/cache-folder"
COMMON = (
    "test=false",
    "threads=1",
    "trainer.enable_model_summary=false",
    "callbacks.last.every_n_train_steps=3",
)
MATCHING = (
    "task=matching",
    "data.train=240",
    "data.valid=40",
    "data.test=40",
    "data.batch_size=16",
    "model.hidden_size=16",
    "model.dropout=0.2",
    "trainer.max_epochs=2",
    "trainer.val_check_interval=0.5",
)
MLM = (
    "task=mlm",
    "data=recall",
    "data.train_length=16",
    "data.eval_lengths=[16]",
    "data.keys=32",
    "data.values=4",
    "data.rows=256",
    "data.test_tokens=64",
    "data.batch_size=16",
    "model.hidden_size=16",
    "model.layers=1",
    "model.heads=2",
    "model.dropout=0.1",
    "trainer.max_epochs=2",
)
KGCLUE = (
    "task=kgclue",
    "model.hidden_size=16",
    "model.layers=1",
    "model.heads=2",
    "task.lexical_steps=5",
    "task.baselines=false",
    "trainer.limit_train_batches=12",
    "trainer.limit_val_batches=1",
    "trainer.max_epochs=2",
)
MULTITASK = (
    "task=multitask",
    "data.train_rows=384",
    "data.valid_rows=64",
    "data.test_rows=64",
    "data.batch_size=32",
    "trainer.max_epochs=2",
)
EG = ("callbacks=[default,eg_coordinate]",)
PARAMETERS = ("task.level=parameters",)
WINDOW = ("trainer.accumulate_grad_batches=2",)
WORKERS = ("data.num_workers=2",)

CASES = {
    "matching, EG, accumulation": Case((*MATCHING, *EG, *WINDOW)),
    "matching, EG, 2 ranks, workers": Case((*MATCHING, *EG, *WORKERS), 2),
    "mlm, EG, workers": Case((*MLM, *EG, *WORKERS)),
    "mlm, accumulation, 2 ranks": Case((*MLM, *WINDOW), 2),
    "kgclue, EG, accumulation, workers": Case((*KGCLUE, *EG, *WINDOW, *WORKERS)),
    "kgclue, 2 ranks": Case(KGCLUE, 2),
    "gradnorm, parameters, EG": Case((*MULTITASK, "balancer=gradnorm", *PARAMETERS, *EG)),
    "dwa, accumulation": Case((*MULTITASK, "balancer=dwa", *WINDOW)),
    "uncertainty, EG, workers": Case((*MULTITASK, "balancer=uncertainty", *EG, *WORKERS)),
    "ema over mgda, 2 ranks": Case((*MULTITASK, "balancer=ema"), 2),
    "famo": Case((*MULTITASK, "balancer=famo")),
    "pcgrad, accumulation": Case((*MULTITASK, "balancer=pcgrad", *PARAMETERS, *WINDOW)),
    "gradvac, EG, 2 ranks": Case((*MULTITASK, "balancer=gradvac", *PARAMETERS, *EG), 2),
    "nash, parameters": Case((*MULTITASK, "balancer=nash", *PARAMETERS)),
}
"""Small runs of every task, with balancers that hold state, both levels, EG, accumulation, loader
workers and two ranks."""
MORE = {
    "matching": Case((*MATCHING, *WORKERS)),
    "matching, 2 ranks": Case(MATCHING, 2),
    "mlm": Case(MLM),
    "kgclue": Case(KGCLUE),
    "gradnorm": Case((*MULTITASK, "balancer=gradnorm")),
    "rlw": Case((*MULTITASK, "balancer=rlw")),
}
"""Plainer runs, for the report."""


@functools.cache
def _settings(case: Case, extra: tuple[str, ...]) -> str:
    """The checked settings of a case as JSON, with places for its folders."""
    from hydra import compose, initialize_config_dir

    from kexue_pl.run.check import check
    from kexue_pl.run.config import config_dir, plain, register

    register()
    words = [*COMMON, *case.words, *extra, f"paths.output_dir={HERE}", f"paths.cache={CACHE}"]
    if case.ranks > 1:
        words.append(f"accelerator={case.accelerator}")
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        composed = compose("train", overrides=words)
    check(composed)
    return json.dumps(plain(composed))


def run(
    case: Case, folder: Path, *extra: str, fault: Fault | None = None, resume: str = "never"
) -> list[Done]:
    """The case in `folder`, to its end; the outcome of each rank.

    The processes read frozen settings, as the ranks of every run do.
    """
    settings = _settings(case, extra)
    for place, real in ((HERE, folder), (CACHE, folder.parent / "cache")):
        settings = settings.replace(place, json.dumps(str(real))[1:-1])
    config = json.loads(settings)
    config["resume"] = resume
    if fault is not None:
        config["callbacks"]["kill_at"] = fault.node()
    file = folder.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    entry = "kexue_pl.testing.frozen.main"
    started = start_ranks(str(file), ranks=case.ranks, cwd=folder.parent, entry=entry)
    return [command.wait(120) for command in started]


def final_state(folder: Path) -> str:
    """SHA-256 over the weights and the optimizers' states of last.ckpt."""
    stored = read(folder / "checkpoints" / "last.ckpt")
    sha = hashlib.sha256()
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        _feed(sha, stored[part])
    return sha.hexdigest()


def _feed(sha: Any, value: Any) -> None:
    if isinstance(value, dict):
        for key in sorted(value, key=str):
            sha.update(str(key).encode())
            _feed(sha, value[key])
    elif isinstance(value, list | tuple):
        for item in value:
            _feed(sha, item)
    elif isinstance(value, torch.Tensor):
        sha.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    else:
        sha.update(repr(value).encode())


def draw_faults(name: str, batches: int, ranks: int, count: int = 3) -> list[Fault]:
    """Faults at random batches and places, in order; the name of the case is the seed."""
    draw = random.Random(name)
    at = sorted(draw.sample(range(1, batches - 2), count))
    numbers = ["SIGKILL", "SIGTERM", "SIGINT"]
    draw.shuffle(numbers)
    faults = []
    for batch, number in zip(at, (numbers * count)[:count]):
        places = PLACES if number == "SIGKILL" else ("start", "step")
        only = draw.choice([-1, 0, 1]) if ranks > 1 else -1
        where = draw.choice(places)
        faults.append(Fault(batch, number, where, 0 if where == "save" and only == 1 else only))
    return faults


def survive(case: Case, root: Path, faults: Sequence[Fault], expected: str) -> Survival:
    """Hit the case with each fault in turn, resuming each time, then let it end.

    Args:
        case: the run.
        root: an empty folder.
        faults: in order of their batches.
        expected: `final_state` of the undisturbed run.

    Raises:
        AssertionError: a run that was not hit did not end well, or ended as none should.
    """
    folder, seen = root / "hit", Survival()
    resume = "never"
    for fault in faults:
        done = run(case, folder, fault=fault, resume=resume)
        codes = {one.code for one in done}
        if codes == {0}:
            break  # the place did not come up again before the end
        hard = fault.number == "SIGKILL"
        if not hard:
            wanted = {128 + signal.Signals[fault.number]}
            stopped = wanted if fault.only == -1 else {*wanted, 143}
            assert codes <= stopped, f"{fault}: exit codes {codes}\n{done[0].err}"
        seen.faults.append(fault)
        seen.codes.append(done[0].code)
        found, _ = newest_sound(folder / "checkpoints")
        seen.sound += found is not None or seen.faults == [fault]
        seen.lost.append(_lost(folder, found))
        resume = "auto"
    last = run(case, folder, resume=resume)
    assert {one.code for one in last} == {0}, last[0].err
    seen.equal = final_state(folder) == expected
    return seen


def _lost(folder: Path, found: Path | None) -> int:
    """Optimizer steps between the newest sound checkpoint and the fault."""
    made = int((folder / "kill_at.txt").read_text(encoding="utf-8"))
    return max(0, made - (int(read(found)["global_step"]) if found else 0))
