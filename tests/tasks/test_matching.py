from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from kexue_pl.data.world_pairs import WorldPairs
from kexue_pl.losses import BCE, CoSENT, InfoNCE, Loss, SBERTSoftmax, SimCSE, Softmax
from kexue_pl.metrics import at_threshold, best_threshold
from kexue_pl.models import Small, Static
from kexue_pl.models.tokenizers import train_tokenizer
from kexue_pl.tasks.matching import MatchingTask
from tests.support.ranks import run_ranks

ADAM = functools.partial(torch.optim.AdamW, lr=1e-2)


def make(spec: Any = None, loss: Loss | None = None, **options: Any) -> MatchingTask:
    torch.manual_seed(0)
    labels = options.pop("labels", "binary")
    data = WorldPairs(
        train=192, valid=61, test=50, batch_size=32, eval_batch_size=16, labels=labels
    )
    data.setup("fit")
    data.tokenizer = train_tokenizer(data.texts())
    spec = spec or Static(hidden_size=32)
    return MatchingTask(data=data, model=spec, loss=loss or CoSENT(5.0), optimizer=ADAM, **options)


def trainer(folder: Path, **options: Any) -> L.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return L.Trainer(
        default_root_dir=folder, accelerator="cpu", num_sanity_val_steps=0, max_epochs=1,
        enable_checkpointing=False, **quiet, **options,
    )  # fmt: skip


def fit(task: MatchingTask, folder: Path, **options: Any) -> dict[str, float]:
    run = trainer(folder, **options)
    run.fit(task, datamodule=task.data)
    metrics = dict(run.callback_metrics)
    run.test(task, datamodule=task.data, verbose=False)
    return {name: float(value) for name, value in {**metrics, **run.callback_metrics}.items()}


SMALL: dict[str, Any] = {"hidden_size": 16, "layers": 1, "heads": 2}
CASES: dict[str, tuple[Any, Loss]] = {
    "bi cosent": (Static(hidden_size=16), CoSENT(5.0)),
    "late cosent": (Static(hidden_size=16, interaction="late"), CoSENT(10.0)),
    "alignment bce": (Static(hidden_size=16, interaction="cross"), BCE()),
    "small bi softmax": (Small(**SMALL), SBERTSoftmax()),
    "small cross cosent": (Small(**SMALL, interaction="cross"), CoSENT()),
    "small cross softmax": (Small(**SMALL, interaction="cross", match_flag=False), Softmax()),
    "small bi simcse": (Small(**SMALL), SimCSE()),
    "small bi infonce": (Small(**SMALL, pooling="cls"), InfoNCE()),
}


@pytest.mark.parametrize("name", CASES)
def test_every_interaction_trains_and_tests(name: str, tmp_path: Path) -> None:
    spec, loss = CASES[name]
    task = make(spec, loss)
    before = [p.detach().clone() for p in task.parameters()]
    metrics = fit(task, tmp_path, limit_train_batches=2)
    wanted = "spearman pearson accuracy f1 precision recall mcc ap threshold oracle_accuracy ece"
    assert {f"test/{name}" for name in wanted.split()} <= set(metrics)
    assert {"test/alignment", "test/uniformity"} <= set(metrics) or "bi" not in name
    assert "test/uniformity" not in metrics or task.model.interaction == "bi"
    assert math.isfinite(metrics["train/loss"]) and metrics["test/us_per_pair"] > 0
    assert metrics["test/accuracy"] <= metrics["test/oracle_accuracy"]
    assert any(not torch.equal(a, b) for a, b in zip(before, task.parameters()))


def test_the_threshold_is_that_of_validation(tmp_path: Path) -> None:
    task = make()
    metrics = fit(task, tmp_path)
    scores, labels = evaluate(task, "valid")
    best = best_threshold(scores, labels)
    assert metrics["val/accuracy"] == pytest.approx(best["accuracy"])
    assert metrics["test/threshold"] == pytest.approx(best["accuracy_threshold"])
    scores, labels = evaluate(task, "test")
    wanted = at_threshold(scores, labels, float(task.threshold))
    for name in ("accuracy", "f1", "precision", "recall", "mcc"):
        assert metrics[f"test/{name}"] == pytest.approx(wanted[name])
    assert float(task.state_dict()["threshold"]) == float(task.threshold)


@torch.no_grad()
def evaluate(task: MatchingTask, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of a set, one row at a time."""
    task.eval()
    rows = task.data.valid_set if name == "valid" else task.data.test_set
    batches = [task.data.collate([rows[i]]) for i in range(len(rows))]
    return torch.cat([task.scores(b) for b in batches]), torch.cat([b["label"] for b in batches])


def test_graded_labels_have_no_threshold_unless_told(tmp_path: Path) -> None:
    metrics = fit(make(labels="graded"), tmp_path, limit_train_batches=1)
    assert "test/spearman" in metrics and "test/accuracy" not in metrics
    told = fit(make(labels="graded", positive_from=5), tmp_path, limit_train_batches=1)
    assert 0 <= told["test/accuracy"] <= 1


def test_micro_batches_give_the_same_gradient() -> None:
    gradients = []
    for size in (None, 5):
        task = make(micro_batch=size).double()
        batch = task.data.collate([task.data.train_set[i] for i in range(17)])
        task.train().loss(batch).backward()
        gradients.append(task.embeddings().weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-10, atol=1e-12)
    naive = make().double()
    batch = naive.data.collate([naive.data.train_set[i] for i in range(17)])
    for start in range(0, 17, 5):
        part = {name: value[start : start + 5] for name, value in batch.items()}
        naive.train().loss(part).backward()
    assert not torch.allclose(naive.embeddings().weight.grad, gradients[0], rtol=0.05)


def test_accumulation_of_an_in_batch_loss_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(make(), tmp_path, limit_train_batches=2, accumulate_grad_batches=2)
    assert "data.batch_size=64 task.micro_batch=32 compares all, exactly" in caplog.text
    caplog.clear()
    cross = Static(hidden_size=16, interaction="cross")
    fit(make(cross, BCE()), tmp_path, limit_train_batches=2, accumulate_grad_batches=2)
    assert "micro_batch" not in caplog.text


def test_wrong_settings_name_the_key() -> None:
    with pytest.raises(ValueError, match=r"task.threshold_by='mcc': expected accuracy or f1"):
        make(threshold_by="mcc")
    with pytest.raises(ValueError, match=r"task.micro_batch=0"):
        make(micro_batch=0)
    with pytest.raises(ValueError, match=r"InfoNCE reads embeddings, which model.interaction=late"):
        make(Static(interaction="late"), InfoNCE())


def test_tables_and_plots(tmp_path: Path) -> None:
    task = make()
    fit(task, tmp_path, limit_train_batches=1)
    rows = task.tables()["hardest_errors"]
    assert rows and rows[0]["error"] == max(row["error"] for row in rows)
    for row in rows:
        assert (row["score"] > float(task.threshold)) != (row["label"] == 1)
    names = {path.name for path in task.plots(tmp_path)}
    assert names == {"scores_by_label.png", "roc_pr.png", "threshold.png", "calibration.png"}


def test_one_class_in_validation_is_survived(tmp_path: Path) -> None:
    task = make()
    for name in ("valid", "test"):
        table = task.data.tables[name]
        table.columns["label"][:] = [1] * len(table)
    task.data.use(task.model.encoder, joined=False)
    metrics = fit(task, tmp_path, limit_train_batches=1)
    assert math.isnan(metrics["test/spearman"]) and metrics["test/accuracy"] == 1.0


def on_rank(rank: int, world: int, folder: str) -> dict[str, float]:
    from lightning.pytorch.strategies import DDPStrategy

    options: dict[str, Any] = {}
    if world > 1:
        options = {"devices": world, "use_distributed_sampler": False}
        options["strategy"] = DDPStrategy(process_group_backend="gloo", broadcast_buffers=False)
    task = make()
    metrics = fit(task, Path(folder), **options)
    return metrics | {"norm": float(task.embeddings().weight.detach().norm())}


@pytest.mark.slow
def test_two_ranks_equal_one(tmp_path: Path) -> None:
    alone = on_rank(0, 1, str(tmp_path))
    ranks = run_ranks(on_rank, 2, str(tmp_path))
    assert ranks[0] == ranks[1]
    for name, value in alone.items():
        if name not in ("train/loss", "test/us_per_pair"):
            assert ranks[0][name] == pytest.approx(value, rel=1e-3, abs=1e-4), name
