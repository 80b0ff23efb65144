"""Costs per unit of every task on this machine, and what they come to at scale (docs/scale.md).

    python scripts/bench/scale.py

Small runs on one thread: each figure is measured here, in seconds of CPU time so that other programs
hardly count (a checkpoint by the clock on the wall), the last column is arithmetic.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
CHARACTERS = "".join(chr(0x4E00 + 7 * i) for i in range(2000))
DAY = 86_400


def rate(step: Callable[[], int], seconds: float) -> float:
    """Units a second of a step that returns its units; one step is not counted."""
    step()
    begun, units = time.process_time(), 0
    while time.process_time() - begun < seconds:
        units += step()
    return units / (time.process_time() - begun)


def texts(count: int, low: int, high: int) -> list[str]:
    """Random texts."""
    draw = random.Random(0)
    return ["".join(draw.choices(CHARACTERS, k=draw.randint(low, high))) for _ in range(count)]


def trained(module: Any, loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
    """One optimizer step."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return step


def matching(seconds: float) -> tuple[float, float, float, int]:
    """Pairs a second: read, checked and tokenized; trained by a small model; order of an epoch; its
    parameters."""
    from kexue_pl.data.shuffle import ShuffledBatches
    from kexue_pl.data.stream import Stream
    from kexue_pl.losses import CoSENT, PairOutputs
    from kexue_pl.models import Small
    from kexue_pl.models.pair_model import PairModel
    from kexue_pl.models.tokenizers import train_tokenizer

    tokenizer = train_tokenizer([CHARACTERS], min_frequency=1)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "train.tsv"
        sides = texts(80_000, 10, 40)
        lines = [f"{a}\t{b}\t{i % 2}\n" for i, (a, b) in enumerate(zip(sides[::2], sides[1::2]))]
        path.write_text("".join(lines), encoding="utf-8")
        (Path(name) / "valid.tsv").write_text("甲\t乙\t1\n丙\t丁\t0\n", encoding="utf-8")
        data = Stream(train=str(path), valid=f"{name}/valid.tsv", batch_size=64)
        data.cache_dir, data.tokenizer = Path(name), tokenizer
        data.setup("fit")
        spec = Small(layers=4, hidden_size=256, heads=4, max_length=64)
        model = PairModel.from_spec(spec, tokenizer, outputs=CoSENT().outputs, attention=None)
        begun = time.process_time()
        data.use(model.encoder, joined=False)
        prepared = len(lines) / (time.process_time() - begun)
        rows = iter(data.train_batches(0))

        def loss() -> torch.Tensor:
            batch = data.collate([data.train_set[row] for row in next(rows)])  # type: ignore[index]
            left, right = model.embeddings(batch)
            value: torch.Tensor = CoSENT()(PairOutputs(left=left, right=right), batch["label"])
            return value

        step = trained(model, loss)
        speed = rate(lambda: (step(), 64)[1], seconds)
    order = ShuffledBatches(10**9, 4096, seed=0, epoch=0)
    parameters = sum(p.numel() for p in model.parameters())
    return prepared, speed, rate(lambda: len(order[7]), 1.0), parameters


def mlm(seconds: float) -> tuple[float, float]:
    """Tokens a second: read and packed; trained by a small model at 64 tokens a row."""
    from transformers import BertConfig, BertForMaskedLM

    from kexue_pl.data.packing import pack
    from kexue_pl.documents import Documents
    from kexue_pl.models.tokenizers import train_tokenizer

    tokenizer = train_tokenizer([CHARACTERS], min_frequency=1)
    pieces = texts(2000, 500, 500)
    with tempfile.TemporaryDirectory() as name:
        begun = time.process_time()
        tokens = pack(Documents(lambda: pieces, "scale", Path(name)), tokenizer)
        packed = len(tokens) / (time.process_time() - begun)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=256, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=1024,
    )  # fmt: skip
    model = BertForMaskedLM(config)
    ids = torch.randint(300, len(tokenizer), (32, 64))
    labels = torch.where(torch.rand(ids.shape) < 0.15, ids, -100)
    step = trained(model, lambda: model(input_ids=ids, labels=labels).loss)
    return packed, rate(lambda: (step(), ids.numel())[1], seconds)


def kgclue() -> tuple[float, float, float]:
    """Triples a second into an index, bytes a triple, seconds for one look at a prefix."""
    from kexue_pl.models.tokenizers import train_tokenizer
    from kexue_pl.retrieval import index_file
    from kexue_pl.retrieval.encode import encoder_of

    tokenizer = train_tokenizer([CHARACTERS], min_frequency=1)
    draw, names, values = random.Random(1), texts(60_000, 2, 8), texts(20_000, 2, 12)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "base.tsv"
        with open(path, "w", encoding="utf-8") as file:
            for _ in range(300_000):
                subject, value = draw.choice(names), draw.choice(values)
                file.write(f"{subject}\t{names[draw.randrange(500)]}\t{value}\n")
        begun = time.process_time()
        index = index_file(path, encoder_of(tokenizer), separator=tokenizer.sep_token_id)
        built = len(index) / (time.process_time() - begun)
    keys = [index.key(row) for row in np.random.default_rng(0).integers(0, len(index), 512)]
    found = rate(lambda: (index.lookup([key[:-1] for key in keys]), len(keys))[1], 1.0)
    return built, index.nbytes() / len(index), 1 / found


def checkpoints() -> tuple[float, float]:
    """Megabytes a second: written with their proof and made durable; verified."""
    from kexue_pl.run.checkpoint_io import VerifiedCheckpointIO, verify

    content = {"state_dict": {str(i): torch.randn(1_000_000) for i in range(25)}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "last.ckpt"
        begun = time.perf_counter()
        VerifiedCheckpointIO().save_checkpoint(content, path)
        written = time.perf_counter() - begun
        begun = time.perf_counter()
        verify(path)
        size = path.stat().st_size / 1e6
        return size / written, size / (time.perf_counter() - begun)


def core(units: float, speed: float) -> str:
    """How long one core takes for so many units."""
    found = units / speed
    for name, length in (("days", DAY), ("hours", 3600)):
        if found >= length:
            return f"{found / length:,.1f} {name}"
    return f"{found:.1f} s"


def main() -> None:
    """Measure and print the table."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    seconds = 8.0
    prepared, pairs, order, parameters = matching(seconds)
    packed, tokens = mlm(seconds)
    built, size, look = kgclue()
    written, verified = checkpoints()
    print("| what | measured on one core | at scale | one core |")
    print("|---|---|---|---|")
    rows = [
        ("matching: read, check, tokenize", f"{prepared:,.0f} pairs/s", "10^9 pairs", core(1e9, prepared)),
        ("matching: train 4 layers, H = 256", f"{pairs:,.0f} pairs/s", "10^9 pairs", core(1e9, pairs)),
        ("matching: order of an epoch", f"{order:,.0f} rows/s", "10^9 pairs", core(1e9, order)),
        ("mlm: read, tokenize, pack", f"{packed:,.0f} tokens/s", "10^11 tokens", core(1e11, packed)),
        ("mlm: train 4 layers, H = 256, n = 64", f"{tokens:,.0f} tokens/s", "10^11 tokens",
         core(1e11, tokens)),
        ("kgclue: build the index", f"{built:,.0f} triples/s", "10^9 triples", core(1e9, built)),
        ("kgclue: size of the index", f"{size:.0f} bytes a triple", "10^9 triples",
         f"{size:.0f} GB on disk"),
        ("kgclue: look up a whole key", f"{look * 1e6:.0f} microseconds", "10^6 questions",
         core(1e6, 1 / look)),
        ("checkpoint: written, on the disk", f"{written:,.0f} MB/s", "12 GB (10^9 parameters, Adam)",
         core(12e3, written)),
        ("checkpoint: verified", f"{verified:,.0f} MB/s", "12 GB", core(12e3, verified)),
    ]  # fmt: skip
    for row in rows:
        print("| " + " | ".join(row) + " |")
    megabytes, step = 8 * parameters / 1e6, 64 / pairs
    print(
        f"\nmatching: {parameters:,} parameters, {step:.2f} s a step of 64 pairs; ranks exchange "
        f"{megabytes:.0f} MB a step and rank (ring, fp32)"
    )


if __name__ == "__main__":
    main()
