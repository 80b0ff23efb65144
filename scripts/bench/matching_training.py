"""End to end: one epoch of training beside sentence-transformers' own trainer, from texts to weights.

    python scripts/bench/matching_training.py [--pairs 8000] [--repeats 3] [--batch 64]

The same encoder (drawn with the same seed), pairs, vocabulary, batch size, longest length, AdamW with a
linear schedule, clipping and CoSENT at scale 20, in one process, in turn. The time runs from the texts
in memory to the trained weights: tokenization, batches, steps and the library's own logging are in it;
neither side validates or writes a checkpoint. `ours, bucketed` also puts pairs of like length together
(`data.bucket=true`), which pads less and changes the batches. Samples are pairs; samples/s are by CPU time,
the best of the repeats, memory is what one epoch adds at its peak, in a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import logging
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from kexue_pl.data.world_pairs import WorldPairs
from kexue_pl.losses import CoSENT
from kexue_pl.models import Small, Static
from kexue_pl.optim.schedules import linear
from kexue_pl.testing.memory import highest_memory, watch_memory

SIDES = ("ours", "ours, bucketed", "sentence-transformers")
MODELS = {
    "transformer": lambda: Small(hidden_size=128, layers=2, heads=4, max_length=64, dropout=0.1),
    "static": lambda: Static(hidden_size=256, min_frequency=2),
}
RATE, SCALE = 1e-3, 20.0


def pairs(count: int) -> WorldPairs:
    """The embedded pairs."""
    data = WorldPairs(train=count, valid=64, test=64, drop_leaked=False)
    data.setup("fit")
    return data


def ours(data: WorldPairs, name: str, tokenizer: Any, batch: int, *, bucket: bool) -> Any:
    """A call that trains one epoch with our task and the trainer of a run."""
    from kexue_pl.run.trainer import make_trainer
    from kexue_pl.tasks.matching import MatchingTask

    trainer = {
        "max_epochs": 1, "max_steps": -1, "accumulate_grad_batches": 1, "gradient_clip_val": 1.0,
        "precision": "32-true", "fast_dev_run": False, "limit_val_batches": 0, "profiler": None,
        "enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 10,
    }  # fmt: skip

    def run(folder: Path) -> Any:
        from lightning.pytorch.callbacks import LearningRateMonitor

        from kexue_pl.callbacks.nonfinite_guard import NonfiniteGuard
        from kexue_pl.run.state import RunState

        data.tokenizer, data.batch_size, data.bucket = tokenizer, batch, bucket
        task = MatchingTask(
            data=data,
            model=MODELS[name](),
            loss=CoSENT(SCALE),
            optimizer=functools.partial(torch.optim.AdamW, lr=RATE),
            scheduler=linear,
        )
        task.total_steps = len(data.train_batches(0))
        config = {
            "trainer": trainer,
            "accelerator": {"accelerator": "cpu", "devices": 1},
            "logger": {
                "csv": {
                    "_target_": "kexue_pl.run.loggers.MetricsCSV",
                    "save_dir": str(folder),
                }
            },
        }
        callbacks = [RunState({}), LearningRateMonitor(), NonfiniteGuard()]
        fit = make_trainer(config, folder, task, callbacks)
        fit.fit(task, datamodule=data)
        return task

    return run


def theirs(data: WorldPairs, name: str, tokenizer: Any, batch: int) -> Any:
    """A call that trains one epoch of the same encoder with SentenceTransformerTrainer."""
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import CoSENTLoss

    table = data.tables["train"].columns
    rows = Dataset.from_dict(
        {
            "sentence1": table["text1"],
            "sentence2": table["text2"],
            "score": [float(label) for label in table["label"]],
        }
    )

    def run(folder: Path) -> Any:
        model = SentenceTransformer(modules=modules(name, tokenizer), device="cpu")
        arguments = SentenceTransformerTrainingArguments(
            output_dir=str(folder),
            num_train_epochs=1,
            per_device_train_batch_size=batch,
            learning_rate=RATE,
            warmup_steps=0.1,
            max_grad_norm=1.0,
            logging_steps=10,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        )
        SentenceTransformerTrainer(
            model=model, args=arguments, train_dataset=rows, loss=CoSENTLoss(model, scale=SCALE)
        ).train()
        return model

    return run


def modules(name: str, tokenizer: Any) -> list[Any]:
    """The encoder of `name` as modules of sentence-transformers."""
    from sentence_transformers.sentence_transformer.modules import (
        Pooling,
        StaticEmbedding,
        Transformer,
    )

    spec = MODELS[name]()
    if name == "static":
        return [StaticEmbedding(tokenizer.backend_tokenizer, embedding_dim=spec.hidden_size)]
    with tempfile.TemporaryDirectory() as folder:
        spec.build(tokenizer).body.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        body = Transformer(folder, max_seq_length=spec.max_length)
    return [body, Pooling(spec.hidden_size, "mean")]


def runner(side: str, name: str, count: int, batch: int) -> Any:
    """The call that trains one epoch; what both sides need is made before."""
    data = pairs(count)
    tokenizer = MODELS[name]().train_tokenizer(data.texts())
    if side == "sentence-transformers":
        return theirs(data, name, tokenizer, batch)
    return ours(data, name, tokenizer, batch, bucket=side.endswith("bucketed"))


def timed(run: Any) -> float:
    """CPU seconds of one epoch from the texts on."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        begin = time.process_time()
        run(Path(folder))
        return time.process_time() - begin


def memory(side: str, name: str, count: int, batch: int) -> float:
    """MiB by which one epoch, in a process of its own, raises the peak of that process."""
    words = [side, name, str(count), str(batch)]
    done = subprocess.run(
        [sys.executable, __file__, "--memory", *words], capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])


def growth(side: str, name: str, count: int, batch: int) -> float:
    """As `memory`, of this process."""
    runner(side, name, 2 * batch, batch)(Path(tempfile.mkdtemp()))  # imports, thread pools
    run = runner(side, name, count, batch)
    before = watch_memory()
    timed(run)
    return highest_memory() - before


def compare(count: int, batch: int, repeats: int, *, with_memory: bool = True) -> None:
    """Print the table of samples/s and memory, all sides in turn."""
    print(f"\nOne epoch of {count} pairs, batch {batch}, {torch.get_num_threads()} thread(s):\n")
    print("| encoder | trained by | pairs/s | ST's time / time | MiB |\n|---|---|---|---|---|")
    for name in MODELS:
        runs = {side: runner(side, name, count, batch) for side in SIDES}
        best = dict.fromkeys(SIDES, float("inf"))
        for _ in range(repeats):
            for side, run in runs.items():
                best[side] = min(best[side], timed(run))
        for side, seconds in best.items():
            ratio = best["sentence-transformers"] / seconds
            mib = f"{memory(side, name, count, batch):.0f}" if with_memory else "–"
            print(f"| {name} | {side} | {count / seconds:.0f} | {ratio:.2f} | {mib} |", flush=True)


def main() -> None:
    """Print the table, or the figure of one side for its parent process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=8000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", nargs=4, metavar=("SIDE", "ENCODER", "PAIRS", "BATCH"))
    given = parser.parse_args()
    quiet()
    if given.memory:
        side, name, count, batch = given.memory
        print(growth(side, name, int(count), int(batch)))
    else:
        compare(given.pairs, given.batch, given.repeats)


def quiet() -> None:
    """One thread, and neither library's remarks on the terminal."""
    from datasets import disable_progress_bars

    torch.set_num_threads(1)
    disable_progress_bars()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)


if __name__ == "__main__":
    main()
