"""Article 8968: what an adaptive step size recovers from a wrong learning rate, on real digits.

    python scripts/articles/recovery.py --seeds 3 --factors 0.01 1 100 --out recovery

Trains two small networks on scikit-learn's digits with a base rate times each factor, with and
without EGStepSize, and prints final training and test loss and test accuracy, mean over seeds. Runs that
ended no better than a uniform guess (loss over 0.99 ln 10, or not finite) are counted: "2!".

--base usual takes rates one would begin with, --base tuned those of the least loss on held-out rows
among half decades: without EGStepSize, on a fifth of the training rows that differs by seed, the
rest trained on. The rows of the table then train on all. --problem matching asks the same of a
text encoder on pairs of the embedded world (score: Spearman on unseen entities). Prodigy,
D-Adaptation and Mechanic take part where their packages are installed; the first two find a rate
themselves, and the factor multiplies it.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from kexue_pl.optim import EGStepSize

NETS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(64, 10),
    "mlp": lambda: nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
    ),
}
Make = Callable[[Iterable[Tensor], float], Optimizer]


def _peer(module: str, name: str) -> Make:
    def make(parameters: Iterable[Tensor], lr: float) -> Optimizer:
        optimizer: Optimizer = getattr(importlib.import_module(module), name)(
            list(parameters), lr=lr
        )
        return optimizer

    return make


OPTIMIZERS: dict[str, Make] = {
    "sgd": lambda p, lr: torch.optim.SGD(p, lr=lr),
    "momentum": lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9),
    "adamw": lambda p, lr: torch.optim.AdamW(p, lr=lr, weight_decay=0.01),
}
PEERS: dict[str, tuple[str, Make]] = {
    "prodigy": ("prodigyopt", _peer("prodigyopt", "Prodigy")),
    "d-adaptation": ("dadaptation", _peer("dadaptation", "DAdaptAdam")),
}
BASE = {
    ("linear", "sgd"): 1.0,
    ("linear", "momentum"): 0.1,
    ("linear", "adamw"): 0.01,
    ("mlp", "sgd"): 0.3,
    ("mlp", "momentum"): 0.03,
    ("mlp", "adamw"): 0.003,
    ("matching", "sgd"): 1.0,
    ("matching", "momentum"): 0.1,
    ("matching", "adamw"): 0.01,
}
MODES: dict[str, dict[str, Any] | None] = {
    "none": None,
    "global": {"scale": "global"},
    "tensor": {"scale": "tensor"},
    "gain": {"scale": "none", "gain": "coordinate"},
    "global+gain": {"scale": "global", "gain": "coordinate"},
}
BATCH, TUNING_SEED = 64, 1000


class Ends(NamedTuple):
    """What a training ended with: losses on its own and on other rows, score in percent."""

    loss: float
    test_loss: float
    score: float


class Problem(NamedTuple):
    """A network, its batches of an epoch, the loss of one, and what it ends with."""

    net: nn.Module
    batches: Callable[[torch.Generator], Iterator[Any]]
    loss: Callable[[Any], Tensor]
    evaluate: Callable[[], Ends]
    guess: float


@cache
def data() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(train, test) digits in [0, 1], 1437 and 360 of them, always the same split."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    images, labels = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    train, test = order[:1437], order[1437:]
    return (images[train], labels[train]), (images[test], labels[test])


def parts(rows: int, fold: int) -> tuple[Tensor, Tensor]:
    """(trained, held out) row numbers: another fifth is held out for every fold."""
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(TUNING_SEED + fold))
    return order[rows // 5 :], order[: rows // 5]


def digits(net_name: str, fold: int | None = None) -> Problem:
    """Ten classes of 8 x 8 images; with a fold, its held-out rows take the test's place."""
    (x, y), (test_x, test_y) = data()
    if fold is not None:
        kept, held = parts(len(x), fold)
        x, y, test_x, test_y = x[kept], y[kept], x[held], y[held]
    net = NETS[net_name]()

    def evaluate() -> Ends:
        found = net(test_x)
        accuracy = (found.argmax(1) == test_y).float().mean().item()
        return Ends(
            F.cross_entropy(net(x), y).item(),
            F.cross_entropy(found, test_y).item(),
            100 * accuracy,
        )

    return Problem(
        net,
        lambda g: iter(torch.randperm(len(x), generator=g).split(BATCH)),
        lambda rows: F.cross_entropy(net(x[rows]), y[rows]),
        evaluate,
        math.log(10),
    )


@cache
def world() -> Any:
    """1600 training and 500 test pairs of questions, with their tokenizer."""
    from kexue_pl.data.world_pairs import WorldPairs
    from kexue_pl.models.static import Static

    pairs = WorldPairs(train=1600, valid=64, test=500)
    pairs.setup("fit")
    pairs.setup("test")
    pairs.tokenizer = Static(hidden_size=128).train_tokenizer(pairs.texts())
    return pairs


def matching(fold: int | None = None) -> Problem:
    """A static encoder trained by CoSENT; with a fold, its held-out rows take the test's place."""
    from kexue_pl.losses import CoSENT
    from kexue_pl.metrics import spearman
    from kexue_pl.models.static import Static
    from kexue_pl.tasks.matching import MatchingTask

    pairs = world()
    spec = Static(hidden_size=128)
    task = MatchingTask(data=pairs, model=spec, loss=CoSENT(), optimizer=torch.optim.SGD)
    train = [pairs.train_set[i] for i in range(len(pairs.train_set))]
    other = [pairs.test_set[i] for i in range(len(pairs.test_set))]
    if fold is not None:
        kept, held = parts(len(train), fold)
        train, other = [train[i] for i in kept], [train[i] for i in held]
    fixed = [pairs.collate(train[i : i + BATCH]) for i in range(0, len(train), BATCH)]
    test = pairs.collate(other)

    def batches(g: torch.Generator) -> Iterator[Any]:
        for rows in torch.randperm(len(train), generator=g).split(BATCH):
            yield pairs.collate([train[i] for i in rows.tolist()])

    def evaluate() -> Ends:
        found = task.outputs(test)
        assert found.left is not None and found.right is not None
        score = spearman(F.cosine_similarity(found.left, found.right), test["label"])
        loss = sum(task.loss(b).item() for b in fixed) / len(fixed)
        return Ends(loss, task.loss(test).item(), 100 * float(score))

    return Problem(task, batches, task.loss, evaluate, math.inf)


def run(
    problem_name: str,
    optimizer_name: str,
    lr: float,
    mode: dict[str, Any] | str | None,
    seed: int,
    epochs: int,
    fold: int | None = None,
) -> dict[str, float]:
    """Losses, score (percent) and scale at the end of a training; mode "mechanic" is the peer's."""
    torch.manual_seed(seed)
    problem = matching(fold) if problem_name == "matching" else digits(problem_name, fold)
    make = OPTIMIZERS.get(optimizer_name) or PEERS[optimizer_name][1]
    optimizer = make(problem.net.parameters(), lr)
    if mode == "mechanic":
        optimizer = mechanized(optimizer)
    g = torch.Generator().manual_seed(seed)
    steps = epochs * len(list(problem.batches(torch.Generator())))
    attached = None
    if isinstance(mode, dict):
        attached = EGStepSize(**mode).attach(optimizer, horizon=steps)
    for _ in range(epochs):
        for batch in problem.batches(g):
            optimizer.zero_grad()
            problem.loss(batch).backward()
            optimizer.step()
    with torch.no_grad():
        problem.net.eval()
        ends = problem.evaluate()
    lost = not (all(map(math.isfinite, ends)) and ends.loss < 0.99 * problem.guess)
    scale = 1.0 if attached is None else attached.readings()["scale"]
    return ends._asdict() | {"scale": scale, "steps": steps, "lost": float(lost)}


def mechanized(optimizer: Optimizer) -> Optimizer:
    """The same optimizer under Mechanic."""
    from mechanic_pytorch import mechanize

    group = optimizer.param_groups[0]
    known = {k: group[k] for k in ("lr", "momentum", "weight_decay") if k in group}
    made: Optimizer = mechanize(type(optimizer))(group["params"], **known)
    return made


def tuned(problem: str, optimizer: str, epochs: int) -> float:
    """The base rate times a power of sqrt(10) with the least held-out loss, of three folds."""

    def score(lr: float) -> float:
        folds = range(3)
        runs = [run(problem, optimizer, lr, None, TUNING_SEED + f, epochs, f) for f in folds]
        total = sum(r["test_loss"] for r in runs)
        return total if math.isfinite(total) else math.inf

    return min((BASE[problem, optimizer] * 10 ** (k / 2) for k in range(-2, 5)), key=score)


def table(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """One row a network, optimizer, factor and mode: means over the seeds."""
    rows: list[dict[str, Any]] = []
    for net, optimizer in itertools.product(arguments.nets, arguments.optimizers):
        peer = optimizer in PEERS
        base = 1.0 if peer else BASE[net, optimizer]
        if arguments.base == "tuned" and not peer:
            base = tuned(net, optimizer, arguments.epochs)
        for factor, mode in itertools.product(arguments.factors, arguments.modes):
            if peer and mode != "none":
                continue
            settings = mode if mode == "mechanic" else MODES[mode]
            if isinstance(settings, dict):
                settings = settings | {"tolerance": arguments.tolerance}
            runs = [
                run(net, optimizer, base * factor, settings, seed, arguments.epochs)
                for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds)
            ]
            losses = torch.tensor([r["loss"] for r in runs], dtype=torch.float64)
            spread = losses.std().item() if len(runs) > 1 else math.nan
            error = spread / math.sqrt(len(runs))
            mean = {k: sum(r[k] for r in runs) / len(runs) for k in ("test_loss", "score", "scale")}
            rows.append(
                {"net": net, "optimizer": optimizer, "base": base, "factor": factor, "mode": mode}
                | {"loss": losses.mean().item(), "loss_error": error}
                | mean
                | {"lost": int(sum(r["lost"] for r in runs)), "steps": int(runs[0]["steps"])}
            )
    return rows


def markdown(rows: list[dict[str, Any]], modes: list[str]) -> str:
    """training loss / test loss / score; `3!`: three seeds ended no better than guessing."""
    lines = ["| net | optimizer | base rate | x | " + " | ".join(modes) + " |"]
    lines.append("|---|---|---|---|" + "---|" * len(modes))
    keys = ("net", "optimizer", "base", "factor")
    for key, group in itertools.groupby(rows, lambda r: [r[k] for k in keys]):
        found = {
            r["mode"]: f"{r['loss']:.3g} / {r['test_loss']:.3g} / {r['score']:.1f}"
            + (f" {r['lost']}!" if r["lost"] else "")
            for r in group
        }
        cells = [found.get(mode, "") for mode in modes]
        lines.append("| " + " | ".join([*key[:2], *(f"{v:.3g}" for v in key[2:]), *cells]) + " |")
    return "\n".join(lines)


def recovered(rows: list[dict[str, Any]]) -> str:
    """Losses over, and score less, those of the same optimizer at factor 1 without adaptation.

    The ratio of training losses has its standard error over the seeds beside it.
    """
    lines = [
        "| net | optimizer | x | mode | training loss ratio | test loss ratio | score difference |",
        "|---|---|---|---|---|---|---|",
    ]
    plain = {
        (r["net"], r["optimizer"]): r for r in rows if r["factor"] == 1 and r["mode"] == "none"
    }
    for r in rows:
        known = plain.get((r["net"], r["optimizer"]))
        if known is not None and r["mode"] != "none" and r["factor"] in (0.01, 1):
            ratio, more = r["loss"] / known["loss"], r["score"] - known["score"]
            error = ratio * math.hypot(*(x["loss_error"] / x["loss"] for x in (r, known)))
            found = [f"{ratio:.2f} ± {error:.2f}", f"{r['test_loss'] / known['test_loss']:.2f}"]
            cells = [r["net"], r["optimizer"], f"{r['factor']:g}", r["mode"], *found]
            lines.append("| " + " | ".join([*cells, f"{more:+.1f}"]) + " |")
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Final loss over the factor, a line a mode, a panel a network and optimizer."""
    from matplotlib.figure import Figure

    nets, kinds = (list(dict.fromkeys(r[key] for r in rows)) for key in ("net", "optimizer"))
    figure = Figure(figsize=(3 * len(kinds), 2.8 * len(nets)), layout="constrained")
    axes = figure.subplots(len(nets), len(kinds), squeeze=False)
    for net, line in zip(nets, axes, strict=True):
        for kind, axis in zip(kinds, line, strict=True):
            here = [r for r in rows if (r["net"], r["optimizer"]) == (net, kind)]
            for mode in dict.fromkeys(r["mode"] for r in here):
                mine = [r for r in here if r["mode"] == mode]
                heights = [
                    min(r["loss"], 100.0) if math.isfinite(r["loss"]) else 100.0 for r in mine
                ]
                axis.plot([r["factor"] for r in mine], heights, marker="o", label=mode)
            axis.set(xscale="log", yscale="log", title=f"{net}, {kind}", xlabel="rate / base rate")
        line[0].set_ylabel("final training loss")
    axes[0, 0].legend(fontsize="small")
    figure.savefig(path, dpi=100)


def _share(text: str) -> float | str:
    return text if text == "auto" else float(text)


def chosen() -> argparse.Namespace:
    """The command line; peers that are not installed are named and left out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problem", choices=("digits", "matching"), default="digits")
    parser.add_argument("--base", choices=("usual", "tuned"), default="usual")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0, help="10 is where settings were tried")
    parser.add_argument("--tolerance", type=_share, default="auto", help="of EGStepSize")
    parser.add_argument("--epochs", type=int, default=20, help="of 23 (matching: 25) steps each")
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=list(NETS))
    names = [*OPTIMIZERS, *PEERS]
    parser.add_argument("--optimizers", nargs="+", default=names, choices=names)
    parser.add_argument("--factors", nargs="+", type=float, default=[0.01, 0.1, 1, 10, 100])
    modes = [*MODES, "mechanic"]
    parser.add_argument("--modes", nargs="+", default=modes, choices=modes)
    parser.add_argument("--out", type=Path, help="folder for recovery.csv, .md and .png")
    arguments = parser.parse_args()
    if arguments.problem == "matching":
        arguments.nets = ["matching"]
    packages = {name: package for name, (package, _) in PEERS.items()}
    for name, package in {**packages, "mechanic": "mechanic_pytorch"}.items():
        wanted = arguments.modes if name == "mechanic" else arguments.optimizers
        if name in wanted and importlib.util.find_spec(package) is None:
            print(f"{name}: left out, the package {package} is not installed")
            wanted.remove(name)
    return arguments


def main() -> None:
    arguments = chosen()
    torch.set_num_threads(1)
    rows = table(arguments)
    text = markdown(rows, arguments.modes) + "\n\n" + recovered(rows)
    print(text)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        with (arguments.out / "recovery.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        (arguments.out / "recovery.md").write_text(text + "\n", encoding="utf-8")
        draw(rows, arguments.out / "recovery.png")


if __name__ == "__main__":
    main()
