"""Losses and metrics of text matching beside sentence-transformers, scipy and the dense form.

    python scripts/bench/matching.py [--rows 32 256 ...] [--pairs 100000 ...] [--seconds 1]
        [--epoch 8000] [--repeats 3]

One thread. Times are CPU time of the process, the least of several repeats, all sides measured in turn
in one run; a loss is one forward and backward pass from (B,) cosines. Memory is the peak that one pass
holds beyond its inputs, as the allocators of torch and Python report it. Ratios are theirs over ours:
above 1, ours wins. At last, one epoch of training end to end (matching_training.py, beside this file).
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kexue_pl.losses import CoSENT, PairOutputs
from kexue_pl.metrics import best_threshold, spearman

Pass = Callable[[], Any]
_DENSE_UP_TO = 8192  # beyond, the B x B matrix alone is 4 GiB
_MIB = 2**20


def least(passes: dict[str, Pass], seconds: float) -> dict[str, float]:
    """Least CPU seconds of each pass; the passes take turns until each had about `seconds`."""
    best = dict.fromkeys(passes, float("inf"))
    spent = dict.fromkeys(passes, 0.0)
    for name, run in passes.items():
        run()
        best[name] = _timed(run, 1)
    inner = {name: max(1, int(2e-3 / max(best[name], 1e-7))) for name in passes}
    while any(used < seconds for used in spent.values()):
        for name, run in passes.items():
            if spent[name] < seconds:
                took = _timed(run, inner[name])
                spent[name] += took * inner[name]
                best[name] = min(best[name], took)
    return best


def _timed(run: Pass, times: int) -> float:
    begin = time.process_time()
    for _ in range(times):
        run()
    return (time.process_time() - begin) / times


def peak(run: Pass) -> float:
    """MiB that a pass holds at its peak beyond what was there before."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
            run()
    tracemalloc.start()  # NumPy's share
    run()
    outside = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = np.cumsum([e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())])
    return (float(held.max(initial=0)) + outside) / _MIB


def dense(scores: Tensor, labels: Tensor) -> Tensor:
    """CoSENT as usually typed: a B x B matrix of differences and a mask."""
    gaps = scores[:, None] - scores[None, :]
    gaps = gaps - (1 - (labels[:, None] < labels[None, :]).float()) * 1e12
    return torch.logsumexp(torch.cat([gaps.new_zeros(1), gaps.flatten()]), 0)


def backward(loss: Callable[[Tensor], Tensor], cosines: Tensor) -> Pass:
    """One forward and backward pass."""

    def run() -> Tensor:
        x = cosines.detach().requires_grad_()
        return torch.autograd.grad(loss(x), x)[0]

    return run


def loss_passes(rows: int, kind: str) -> dict[str, Pass]:
    """Ours, sentence-transformers' and the dense form over the same cosines and labels."""
    from sentence_transformers.sentence_transformer.losses import CoSENTLoss

    g = torch.Generator().manual_seed(0)
    cosines = torch.rand(rows, generator=g) * 2 - 1
    grades = {"binary": 2, "grades": 6}.get(kind)
    labels = torch.rand(rows, generator=g)
    if grades:
        labels = torch.randint(0, grades, (rows,), generator=g).float()
    ours, theirs = CoSENT(20.0), CoSENTLoss(nn.Identity(), 20.0, lambda a, b: a)
    passes = {
        "ours": backward(lambda x: ours(PairOutputs(scores=x), labels), cosines),
        "st": backward(lambda x: theirs.compute_loss_from_embeddings([x, x], labels), cosines),
    }
    if rows <= _DENSE_UP_TO:
        passes["dense"] = backward(lambda x: dense(20 * x, labels), cosines)
    return passes


def losses(sizes: list[int], seconds: float) -> None:
    """Print the table of the loss."""
    print(
        "| B | labels | ours ms | ST ms | dense ms | ST / ours | dense / ours | MiB ours, ST, dense |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for rows in sizes:
        for kind in ("binary", "grades", "real"):
            passes = loss_passes(rows, kind)
            reference = passes["ours"]()
            for name, run in passes.items():
                torch.testing.assert_close(run(), reference, rtol=1e-3, atol=1e-4, msg=name)
            ms = {name: 1e3 * took for name, took in least(passes, seconds).items()}
            mib = ", ".join(f"{peak(run):.2f}" for run in passes.values())
            whole = ms.get("dense", float("nan"))
            print(
                f"| {rows} | {kind} | {ms['ours']:.3f} | {ms['st']:.3f} | {whole:.3f} | "
                f"{ms['st'] / ms['ours']:.2f} | {whole / ms['ours']:.0f} | {mib} |",
                flush=True,
            )


def accumulation(rows: int = 256, parts: tuple[int, ...] = (2, 4, 8, 16)) -> None:
    """Print how far the mean of micro-batch gradients is from that of the whole batch."""
    print(
        "\n| micro-batches of a batch of 256 | cosine of gradients | norm / norm |\n|---|---|---|"
    )
    g = torch.Generator().manual_seed(0)
    loss, labels = CoSENT(20.0), torch.arange(rows) % 2
    left, right = torch.randn(2, rows, 64, generator=g)
    right = right + 0.7 * labels[:, None] * left
    weight = torch.eye(64)

    def gradient(part: slice) -> Tensor:
        w = weight.clone().requires_grad_()
        outputs = PairOutputs(left=left[part] @ w, right=right[part] @ w)
        return torch.autograd.grad(loss(outputs, labels[part]), w)[0].flatten()

    whole = gradient(slice(0, rows))
    for count in parts:
        size = rows // count
        naive = torch.stack([gradient(slice(i, i + size)) for i in range(0, rows, size)]).mean(0)
        cosine = float(torch.cosine_similarity(naive, whole, dim=0))
        print(f"| {count} | {cosine:.3f} | {float(naive.norm() / whole.norm()):.3f} |")


def thresholds(n: int, scores: Any, labels: Any, seconds: float) -> None:
    """Print the row of the thresholds for the best accuracy and F1, one sort against two loops."""
    from sentence_transformers.sentence_transformer.evaluation import BinaryClassificationEvaluator

    def peer() -> tuple[float, float]:
        accuracy = BinaryClassificationEvaluator.find_best_acc_and_threshold(scores, labels, True)
        f1 = BinaryClassificationEvaluator.find_best_f1_and_threshold(scores, labels, True)
        return accuracy[0], f1[0]

    found = best_threshold(scores, labels)
    np.testing.assert_allclose((found["accuracy"], found["f1"]), peer(), rtol=1e-12)
    took = least({"ours": partial(best_threshold, scores, labels), "peer": peer}, seconds)
    _row(n, "accuracy and F1 threshold", took, "sentence-transformers")


def metrics(sizes: list[int], seconds: float) -> None:
    """Print the table of the threshold and of Spearman."""
    from scipy.stats import spearmanr

    print("\n| n | figure | ours s | peer | peer s | peer / ours |\n|---|---|---|---|---|---|")
    for n in sizes:
        rng = np.random.default_rng(0)
        labels = (rng.random(n) < 0.5).astype(int)
        scores = np.clip(rng.normal(0.35 + 0.25 * labels, 0.2), -1, 1).astype(np.float32)
        thresholds(n, scores, labels, seconds)
        for kind, y in {
            "binary": labels,
            "6 grades": rng.integers(0, 6, n),
            "real": rng.normal(size=n).astype(np.float32),
        }.items():
            assert abs(spearman(scores, y) - spearmanr(scores, y)[0]) < 1e-9
            passes = {"ours": partial(spearman, scores, y), "peer": partial(spearmanr, scores, y)}
            took = least(passes, seconds)
            _row(n, f"Spearman, {kind}", took, "scipy")


def _row(n: int, figure: str, took: dict[str, float], peer: str) -> None:
    ratio = took["peer"] / took["ours"]
    print(f"| {n} | {figure} | {took['ours']:.4f} | {peer} | {took['peer']:.4f} | {ratio:.1f} |")


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="*", default=[32, 256, 2048, 8192, 32768])
    parser.add_argument("--pairs", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--seconds", type=float, default=1.0, help="CPU time for each figure")
    parser.add_argument("--epoch", type=int, default=8000, help="pairs of the epoch; 0: none")
    parser.add_argument("--repeats", type=int, default=3, help="epochs of each side")
    given = parser.parse_args()
    torch.set_num_threads(1)
    losses(given.rows, given.seconds)
    metrics(given.pairs, given.seconds)
    accumulation()
    if given.epoch:
        import matching_training

        matching_training.quiet()
        matching_training.compare(given.epoch, 64, given.repeats)


if __name__ == "__main__":
    main()
