"""Several scalings and positions on one trained masked language model, compared in pairs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kexue_pl.attention import Calibrated, EntropyProbe, install
from kexue_pl.data.masking import IGNORED
from kexue_pl.metrics.mcnemar import McNemar, mcnemar

__all__ = ["Outcome", "Variant", "compare", "evaluate", "load_task", "markdown", "variants"]


@dataclass(frozen=True)
class Variant:
    """One way of running the model.

    Attributes:
        name: of the scaling and the positions.
        scaling: the rule of the logits; None = that of the checkpoint, with what it learned.
        positions: inside the attention function; None = those of the checkpoint.
    """

    name: str
    scaling: Any
    positions: Any


def load_task(checkpoint: Path) -> tuple[dict[str, Any], Any, Any]:
    """Settings, data and task of a checkpoint that ``task=mlm`` wrote, with its weights.

    Raises:
        ValueError: a checkpoint of another task.
    """
    from kexue_pl.run.checkpoint_io import read
    from kexue_pl.run.state import RunState
    from kexue_pl.run.train import assemble

    stored = read(checkpoint)
    facts = stored["callbacks"][RunState.__qualname__]["facts"]
    config = facts["config"]
    if config["task"]["name"] != "mlm":
        raise ValueError(f"{checkpoint}: a checkpoint of task={config['task']['name']}, not of mlm")
    data, task = assemble(config, facts)
    task.load_state_dict(stored["state_dict"])
    return config, data, task.eval()


def variants(
    config: dict[str, Any], names: Sequence[str], positions: Sequence[str]
) -> list[Variant]:
    """The scalings ``names`` under each of the ``positions``, with the settings of ``conf/``.

    Args:
        config: of the run; lengths that scalings depend on are taken from its data.
        names: options of ``attention=``, with settings where needed:
            ``entropy_invariant:strength=0.5``.
        positions: options of ``model.positions``; none = those of the checkpoint.

    Raises:
        ValueError: a learned scaling, which would have to be trained first.
    """
    from kexue_pl.models.masked_lm import make_positions

    made = []
    settings = config["model"]
    places: list[str | None] = [*positions] if positions else [None]
    for place in places:
        for name in names:
            scaling = _scaling(config, name)
            if scaling.learned:
                raise ValueError(f"{name}: learns values; train with attention={name} instead")
            kind = None
            if place is not None:
                kind = make_positions(
                    place,
                    train_length=config["data"]["train_length"],
                    window=settings.get("window"),
                    rope_base=settings.get("rope_base", 10_000.0),
                )
            made.append(Variant(f"{name} {place}" if place else name, scaling, kind))
    return made


def _scaling(config: dict[str, Any], name: str) -> Any:
    from omegaconf import OmegaConf

    from kexue_pl.run.build import build
    from kexue_pl.run.config import config_dir

    option, _, rest = name.partition(":")
    path = config_dir() / "attention" / f"{option}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml")))
        raise ValueError(f"attention={option!r}: expected one of {known}")
    whole = OmegaConf.create({"data": config["data"], "attention": OmegaConf.load(path)})
    changed = OmegaConf.from_dotlist([part for part in rest.split(";") if part])
    whole.attention = OmegaConf.merge(whole.attention, changed)
    node = OmegaConf.to_container(whole, resolve=True)
    assert isinstance(node, dict)
    return build(node["attention"], "attention")


@dataclass(frozen=True)
class Outcome:
    """What a variant did at one length.

    Attributes:
        hits: (N,) bool, each hidden token right or wrong, in the order of the text.
        clusters: (N,) int, the longest row that each hidden token lies in.
        entropy: mean attention entropy over layers and heads, nats.
    """

    hits: Tensor
    clusters: Tensor
    entropy: float


def evaluate(
    task: Any, data: Any, variant: Variant, *, entropy_batches: int | None = None
) -> dict[int, Outcome]:
    """What a variant does at every length of the data, on the same hidden tokens.

    Args:
        task: an MLM task with trained weights; its scaling and positions are replaced.
        data: its data, set up and with its tokenizer.
        variant: how to run the model.
        entropy_batches: batches of each length whose entropy is measured; None = all.
    """
    function = task.net.function
    positions = variant.positions if variant.positions is not None else function.positions
    if variant.scaling is None:
        function.positions = positions
    else:
        task.net.function = install(task.net.model, variant.scaling, positions)
    if isinstance(variant.scaling, Calibrated):
        task.calibrate()
    longest = max(data.eval_lengths)
    return {
        n: _outcome(task, loader, longest // n, entropy_batches)
        for n, loader in zip(data.eval_lengths, data.test_dataloader())
    }


@torch.inference_mode()
def _outcome(task: Any, loader: Any, rows_in_cluster: int, entropy_batches: int | None) -> Outcome:
    hits, clusters, rows = [], [], 0
    probe = EntropyProbe(task.net.function)
    for number, batch in enumerate(loader):
        watched = entropy_batches is None or number < entropy_batches
        with probe if watched else nullcontext():
            logits, labels = task.predict(batch)
        hits.append(logits.argmax(-1) == labels)
        chosen = (batch["labels"] != IGNORED).sum(1)
        numbers = torch.arange(rows, rows + len(chosen)) // rows_in_cluster
        clusters.append(numbers.repeat_interleave(chosen))
        rows += len(chosen)
    return Outcome(torch.cat(hits), torch.cat(clusters), float(probe.mean().mean()))


def compare(task: Any, data: Any, tried: Sequence[Variant]) -> list[dict[str, Any]]:
    """Test every variant at every length on the same hidden tokens; one row a variant and length.

    Rows hold accuracy, entropy, and against the first variant: the difference with its errors and
    the exact p of :func:`mcnemar`.

    Args:
        task: an MLM task with trained weights; its scaling and positions are replaced.
        data: its data, set up and with its tokenizer.
        tried: at least one; the first is what the others are compared with.
    """
    rows: list[dict[str, Any]] = []
    first: dict[int, Outcome] = {}
    given = task.net.function.positions
    for variant in tried:
        positions = variant.positions if variant.positions is not None else given
        found = evaluate(task, data, replace(variant, positions=positions))
        for n, outcome in found.items():
            base = first.setdefault(n, outcome)
            rows.append(
                _row(variant.name, n, outcome, mcnemar(base.hits, outcome.hits, outcome.clusters))
            )
    return rows


def _row(name: str, length: int, found: Outcome, result: McNemar) -> dict[str, Any]:
    return {
        "variant": name,
        "length": length,
        "accuracy": float(found.hits.double().mean()),
        "entropy": found.entropy,
        "difference": result.difference,
        "error": result.error,
        "cluster_error": result.cluster_error,
        "wins": result.wins,
        "losses": result.losses,
        "p": result.p,
        "tokens": len(found.hits),
    }


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """A table of accuracies (%), one line a variant, with differences ± clustered errors."""
    lengths = sorted({row["length"] for row in rows})
    names = list(dict.fromkeys(row["variant"] for row in rows))
    cells = {(row["variant"], row["length"]): row for row in rows}
    lines = [
        "| variant | " + " | ".join(str(n) for n in lengths) + " |",
        "|---" * (len(lengths) + 1) + "|",
    ]
    for number, name in enumerate(names):
        texts = []
        for n in lengths:
            row = cells[name, n]
            text = f"{100 * row['accuracy']:.2f}"
            if number:
                text += f" ({100 * row['difference']:+.2f} ± {100 * row['cluster_error']:.2f})"
            texts.append(text)
        lines.append(f"| {name} | " + " | ".join(texts) + " |")
    return "\n".join(lines)
