"""STS-B in Chinese from scratch: our static encoder, sentence-transformers' and TF-IDF.

    python scripts/bench/sts.py FOLDER [--seeds 0 1 2]

FOLDER holds STS-B.train.data and STS-B.valid.data (text, text, label by tabs). All learn from the same
rows (ours leaves out those that are also evaluated) with CoSENT at scale 5, batch 64, 8 epochs, one
thread, and the same character vocabulary. Validation Spearman as mean and standard deviation over seeds.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import tempfile
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from kexue_pl.metrics import spearman
from kexue_pl.run.files import read_json

EPOCHS, BATCH, SCALE, WIDTH, RATE = 8, 64, 5.0, 256, 1e-2
Rows = list[tuple[str, str, float]]


def read(path: Path) -> Rows:
    with open(path, newline="", encoding="utf-8") as file:
        lines = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [(a, b, float(label)) for a, b, label in lines]


def tfidf(train: Rows, valid: Rows) -> float:
    """Cosine of TF-IDF vectors of character 1- to 3-grams."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True)
    vectors.fit([text for row in train for text in row[:2]])
    left, right = (vectors.transform([row[side] for row in valid]) for side in (0, 1))
    scores = torch.tensor(left.multiply(right).sum(1)).flatten()
    return spearman(scores, torch.tensor([row[2] for row in valid]))


def ours(folder: Path, seed: int) -> tuple[float, float]:
    """Validation Spearman and seconds of `train.py`."""
    import subprocess
    import sys

    with tempfile.TemporaryDirectory() as run:
        begin = time.perf_counter()
        words = ["task=matching", "data=files", "model=static", "loss=cosent"]
        words += [f"loss.scale={SCALE}", f"model.hidden_size={WIDTH}", f"data.batch_size={BATCH}"]
        words += [f"trainer.max_epochs={EPOCHS}", f"model.lr={RATE}", f"seed={seed}", "threads=1"]
        words += [f"data.train={folder}/STS-B.train.data", f"data.valid={folder}/STS-B.valid.data"]
        command = [sys.executable, "-m", "kexue_pl.cli", *words, f"paths.output_dir={run}"]
        subprocess.run(command, check=True, capture_output=True)
        seconds = time.perf_counter() - begin
        return read_json(Path(run) / "summary.json")["metrics"]["test/spearman"], seconds


def peers(train: Rows, valid: Rows, seed: int) -> tuple[float, float]:
    """sentence-transformers: StaticEmbedding, CoSENTLoss, its own trainer."""
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
        util,
    )
    from sentence_transformers.sentence_transformer.losses import CoSENTLoss
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    from kexue_pl.models.tokenizers import train_tokenizer

    begin = time.perf_counter()
    torch.manual_seed(seed)
    texts = [text for row in train for text in row[:2]]
    tokenizer = train_tokenizer(texts, kind="char", vocab_size=8000, min_frequency=1)
    module = StaticEmbedding(tokenizer.backend_tokenizer, embedding_dim=WIDTH)
    model = SentenceTransformer(modules=[module], device="cpu")
    names = ("sentence1", "sentence2", "score")
    data = Dataset.from_list([dict(zip(names, (a, b, y / 5))) for a, b, y in train])
    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=folder,
            num_train_epochs=EPOCHS,
            per_device_train_batch_size=BATCH,
            learning_rate=RATE,
            warmup_steps=0.1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            seed=seed,
            use_cpu=True,
        )
        loss = CoSENTLoss(model, scale=SCALE)
        trainer = SentenceTransformerTrainer(
            model=model, args=arguments, train_dataset=data, loss=loss
        )
        with contextlib.redirect_stdout(io.StringIO()):  # what it logs
            trainer.train()
    left, right = (
        model.encode([row[side] for row in valid], convert_to_tensor=True) for side in (0, 1)
    )
    scores = util.pairwise_cos_sim(left, right)
    seconds = time.perf_counter() - begin
    return spearman(scores, torch.tensor([row[2] for row in valid])), seconds


def shown(values: list[float]) -> str:
    return f"{mean(values):.4f} ± {stdev(values) if len(values) > 1 else float('nan'):.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    chosen: Any = parser.parse_args()
    torch.set_num_threads(1)
    train, valid = (read(chosen.folder / f"STS-B.{part}.data") for part in ("train", "valid"))
    print(f"{len(train)} training and {len(valid)} validation pairs, seeds {chosen.seeds}\n")
    print("| encoder | Spearman | s a run | of |\n|---|---|---|---|")
    print(f"| TF-IDF, cosine | {tfidf(train, valid):.4f} | | |")
    for name, what, results in (
        (
            "ours, static",
            "the whole command, imports, plots and checkpoints included",
            [ours(chosen.folder, seed) for seed in chosen.seeds],
        ),
        (
            "sentence-transformers",
            "training and encoding alone",
            [peers(train, valid, seed) for seed in chosen.seeds],
        ),
    ):
        scores, seconds = zip(*results)
        print(f"| {name} | {shown(list(scores))} | {mean(seconds):.1f} | {what} |", flush=True)


if __name__ == "__main__":
    main()
