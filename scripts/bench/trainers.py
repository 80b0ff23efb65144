"""End to end: one epoch of task=mlm and task=kgclue beside transformers' own trainers.

    python scripts/bench/trainers.py [--repeats 3] [--tasks mlm kgclue]

The same model folder (BERT of 4 layers of 128; BART of 2 + 2), the same file, batch size, length,
fused AdamW (their default) with linear warm-up and decay, clipping, on one thread. Time runs from
the file to the trained weights and is the processor's, without imports: reading, checking,
tokenization, batches, steps, and logging every ten steps. Ours is the whole of a run (its records
and its last checkpoint too). Theirs is `Trainer` with `DataCollatorForLanguageModeling` on packed
rows, which computes the logits of all tokens where ours computes those of the hidden ones, and
`Seq2SeqTrainer` with `DataCollatorForSeq2Seq`, both without checkpoints. Every epoch is a process
of its own, the sides take turns; the least time of the repeats, and what the epoch adds to the
memory at its peak. Multi-task training beside LibMTL is in multitask.py, matching in
matching_training.py.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kexue_pl.models.loading import load_pretrained
from kexue_pl.testing.memory import highest_memory, watch_memory

SIDES = ("ours", "transformers")
BATCH, RATE, LENGTH, WARM_UP = 32, 1e-3, 64, 0.1
QUIET = (
    "test=false",
    "threads=1",
    f"data.batch_size={BATCH}",
    f"optimizer.lr={RATE}",
    "optimizer.fused=true",
    f"scheduler.warmup={WARM_UP}",
    "trainer.max_epochs=1",
    "trainer.limit_val_batches=0",
    "trainer.enable_model_summary=false",
    "callbacks.best=null",
)


def write_text(folder: Path) -> Path:
    """A million characters of this Python's standard library."""
    path, left = folder / "text.txt", 1_000_000
    with path.open("w", encoding="utf-8") as file:
        for source in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
            text = source.read_text(encoding="utf-8", errors="ignore")[:left]
            left -= file.write(text)
            if not left:
                break
    return path


def write_pairs(folder: Path) -> Path:
    """Ten thousand pairs of questions about the embedded world: from one the other is written."""
    from kexue_pl.data.world_pairs import WorldPairs

    data = WorldPairs(train=10_000, valid=64, test=64, drop_leaked=False)
    data.setup("fit")
    table, path = data.tables["train"].columns, folder / "pairs.tsv"
    rows = zip(table["text1"], table["text2"], strict=True)
    path.write_text("".join(f"{query}\t{key}\n" for query, key in rows), encoding="utf-8")
    return path


def prepare_mlm(folder: Path) -> None:
    """text.txt, and a BERT with a vocabulary of its own."""
    from transformers import BertConfig, BertForMaskedLM

    from kexue_pl.models.tokenizers import train_tokenizer

    text = write_text(folder).read_text(encoding="utf-8")
    tokenizer = train_tokenizer([text], kind="bpe", vocab_size=4000, lowercase=False)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=LENGTH,
    )
    BertForMaskedLM(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")


def prepare_kgclue(folder: Path) -> None:
    """pairs.tsv, and a BART over characters."""
    from kexue_pl.models import EncoderDecoder

    text = write_pairs(folder).read_text(encoding="utf-8")
    spec = EncoderDecoder(max_length=LENGTH)
    tokenizer = spec.train_tokenizer([text])
    spec.build(tokenizer).body.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")


def ours(task: str, folder: Path, out: Path) -> Callable[[], None]:
    """A run of this task."""
    from hydra import compose, initialize_config_dir

    from kexue_pl.run.config import config_dir, plain, register
    from kexue_pl.run.train import train

    words = {
        "mlm": [
            "task=mlm", "data=text", f"data.train={folder}/text.txt", "model=pretrained_mlm",
            f"model.path={folder}/model", "attention=standard", f"data.train_length={LENGTH}",
            f"data.eval_lengths=[{LENGTH}]", f"data.valid={folder}/text.txt",
            f"data.test={folder}/text.txt", "data.test_tokens=64",
        ],
        "kgclue": [
            "task=kgclue", "data=keyed_pairs", f"data.train={folder}/pairs.tsv",
            f"data.valid={folder}/pairs.tsv", "model=encoder_decoder",
            f"model.pretrained={folder}/model", f"data.max_question={LENGTH}",
            f"data.max_length={2 * LENGTH}", "task.lexical=0", "task.tune=false",
        ],
    }  # fmt: skip
    register()
    overrides = [*words[task], *QUIET, f"paths.output_dir={out}", f"paths.cache={out}-cache"]
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = plain(compose("train", overrides=overrides))
    return lambda: train(config)


def arguments(kind: Any, out: Path) -> Any:
    """What both of their trainers are told."""
    return kind(
        output_dir=str(out),
        num_train_epochs=1,
        per_device_train_batch_size=BATCH,
        learning_rate=RATE,
        warmup_steps=WARM_UP,
        max_grad_norm=1.0,
        logging_steps=10,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )


def their_mlm(folder: Path, out: Path) -> None:
    """The recipe of transformers' examples: tokenize, join, cut, mask in the collator."""
    from datasets import load_dataset
    from transformers import (
        AutoModelForMaskedLM,
        AutoTokenizer,
        DataCollatorForLanguageModeling,
        Trainer,
        TrainingArguments,
    )

    tokenizer = load_pretrained(AutoTokenizer, str(folder / "model"))
    lines = load_dataset(
        "text", data_files=str(folder / "text.txt"), split="train", cache_dir=str(out / "cache")
    )

    def tokens(rows: dict[str, Any]) -> dict[str, Any]:
        return {"input_ids": tokenizer(rows["text"], add_special_tokens=False)["input_ids"]}

    def cut(rows: dict[str, Any]) -> dict[str, Any]:
        joined = [token for row in rows["input_ids"] for token in row]
        return {
            "input_ids": [
                joined[at : at + LENGTH] for at in range(0, len(joined) - LENGTH + 1, LENGTH)
            ]
        }

    packed = lines.map(tokens, batched=True, remove_columns=["text"]).map(cut, batched=True)
    Trainer(
        model=load_pretrained(AutoModelForMaskedLM, str(folder / "model")),
        args=arguments(TrainingArguments, out),
        train_dataset=packed,
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15),
    ).train()


def their_kgclue(folder: Path, out: Path) -> None:
    """Questions in, keys out."""
    from datasets import load_dataset
    from transformers import (
        AutoModelForSeq2SeqLM,
        AutoTokenizer,
        DataCollatorForSeq2Seq,
        Seq2SeqTrainer,
        Seq2SeqTrainingArguments,
    )

    tokenizer = load_pretrained(AutoTokenizer, str(folder / "model"))
    model = load_pretrained(AutoModelForSeq2SeqLM, str(folder / "model"))
    rows = load_dataset(
        "csv",
        data_files=str(folder / "pairs.tsv"),
        delimiter="\t",
        column_names=["query", "key"],
        split="train",
        cache_dir=str(out / "cache"),
    )

    def tokens(rows: dict[str, Any]) -> dict[str, Any]:
        found = tokenizer(rows["query"], truncation=True, max_length=LENGTH)
        keys = tokenizer(rows["key"], add_special_tokens=False)["input_ids"]
        end = tokenizer.sep_token_id
        return {"input_ids": found["input_ids"], "labels": [[*key, end] for key in keys]}

    Seq2SeqTrainer(
        model=model,
        args=arguments(Seq2SeqTrainingArguments, out),
        train_dataset=rows.map(tokens, batched=True, remove_columns=["query", "key"]),
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
    ).train()


PREPARE = {"mlm": prepare_mlm, "kgclue": prepare_kgclue}
THEIRS = {"mlm": their_mlm, "kgclue": their_kgclue}


def once(task: str, side: str, folder: Path) -> dict[str, float]:
    """CPU seconds and MiB of one epoch in this process."""
    import lightning  # noqa: F401  imports are not a part of the epoch
    import torch
    import transformers
    from datasets import disable_progress_bars

    disable_progress_bars()
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as out:
        theirs = THEIRS[task]
        run = ours(task, folder, Path(out) / "run") if side == "ours" else None
        before = watch_memory()
        begin = time.process_time()
        with contextlib.redirect_stdout(sys.stderr):
            run() if run else theirs(folder, Path(out))
        seconds = time.process_time() - begin
    return {"seconds": seconds, "mib": highest_memory() - before}


def count(task: str, folder: Path) -> tuple[int, str]:
    """Samples of an epoch, and what they are."""
    if task == "kgclue":
        return len((folder / "pairs.tsv").read_text(encoding="utf-8").splitlines()), "questions"
    from transformers import AutoTokenizer

    tokenizer = load_pretrained(AutoTokenizer, str(folder / "model"))
    text = (folder / "text.txt").read_text(encoding="utf-8")
    return len(tokenizer(text, add_special_tokens=False)["input_ids"]), "tokens"


def compare(task: str, repeats: int) -> None:
    """Print the rows of a task."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        PREPARE[task](folder)
        samples, unit = count(task, folder)
        found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for _ in range(repeats):
            for side in SIDES:
                words = [sys.executable, __file__, "--once", task, side, name]
                done = subprocess.run(words, stdout=subprocess.PIPE, check=True, text=True)
                found[side].append(json.loads(done.stdout.splitlines()[-1]))
    best = {side: min(run["seconds"] for run in runs) for side, runs in found.items()}
    for side, runs in found.items():
        rate, ratio = samples / best[side], best["transformers"] / best[side]
        mib = min(run["mib"] for run in runs)
        print(f"| {task} | {side} | {rate:.0f} {unit} | {ratio:.2f} | {mib:.0f} |", flush=True)


def main() -> None:
    """Print the table, or the figures of one side for its parent process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", nargs="+", choices=list(PREPARE), default=list(PREPARE))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--once", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    if given.once:
        task, side, folder = given.once
        print(json.dumps(once(task, side, Path(folder))))
        return
    print(
        "| task | trained by | a second | transformers' time / time | MiB |\n|---|---|---|---|---|"
    )
    for task in given.tasks:
        compare(task, given.repeats)


if __name__ == "__main__":
    main()
