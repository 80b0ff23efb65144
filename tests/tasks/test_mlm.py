"""The task: counts, calibration, tables and plots, runs of a few steps."""

from __future__ import annotations

import math

import lightning as L
import pytest
import torch
import torch.nn.functional as F

from kexue_pl.attention import Calibrated, EntropyInvariant, SSMax, Standard
from kexue_pl.data.masking import IGNORED
from kexue_pl.tasks.mlm import Tally
from tests.support.ranks import run_ranks
from tests.support.recall import tiny_recall


def trainer(**settings):
    return L.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, **settings,
    )  # fmt: skip


def test_tally():
    torch.manual_seed(0)
    logits, labels = torch.randn(50, 7), torch.randint(0, 7, (50,))
    tally = Tally()
    for part in (slice(0, 13), slice(13, 50)):
        tally.add(logits[part], labels[part])
    found = tally.read()
    assert found["accuracy"] == (logits.argmax(1) == labels).double().mean().item()
    assert math.isclose(found["loss"], F.cross_entropy(logits, labels).item(), rel_tol=1e-6)
    assert math.isclose(found["perplexity"], math.exp(found["loss"]))


def test_loss_is_over_hidden_tokens_alone():
    data, task = tiny_recall()
    batch = next(iter(data.train_dataloader()))
    task.eval()
    loss = task.loss(batch)
    every = task.net(
        batch["input_ids"],
        torch.ones_like(batch["input_ids"]).bool(),
        token_type_ids=batch["token_type_ids"],
    )
    want = F.cross_entropy(every, batch["labels"].flatten(), ignore_index=IGNORED)
    assert torch.allclose(loss, want, atol=1e-5)


@pytest.mark.parametrize(
    "attention", [None, EntropyInvariant(base=16), SSMax(), Calibrated(train_length=16)]
)
def test_fit_and_test(attention, tmp_path):
    data, task = tiny_recall(attention)
    run = trainer(max_steps=3)
    run.fit(task, datamodule=data)
    run.test(task, datamodule=data, verbose=False)
    metrics = run.callback_metrics
    for n in (16, 32, 64):
        assert 0 <= metrics[f"test/accuracy@{n}"] <= 1
        assert metrics[f"test/perplexity@{n}"] > 1
        assert 0 < metrics[f"test/entropy@{n}"] <= math.log(n)
    assert "test/entropy_slope" in metrics
    tables = task.tables()
    assert [row["length"] for row in tables["lengths"]] == [16, 32, 64]
    assert len(tables["entropy"]) == 4
    files = task.plots(tmp_path)
    assert len(files) == 2
    assert all(file.stat().st_size > 5000 for file in files)
    if isinstance(attention, Calibrated):
        means = [metrics[f"test/entropy@{n}"] for n in (16, 32, 64)]
        assert max(means) - min(means) < 0.15  # fitted on other rows
    if isinstance(attention, SSMax):
        state = {name for name in task.state_dict() if "attention_scaling" in name}
        assert len(state) == 2


def test_bfloat16_on_demand():
    data, task = tiny_recall()
    batch = next(iter(data.train_dataloader()))
    task.eval()
    plain, _ = task.predict(batch)
    task.bf16 = True
    half, _ = task.predict(batch)
    assert 1e-5 < (plain - half).abs().max() < 0.3


def test_scalings_based_on_the_training_length_train_the_same_model():
    results = []
    for attention in (Standard(), EntropyInvariant(base=16)):
        data, task = tiny_recall(attention)
        run = trainer(max_steps=3)
        run.fit(task, datamodule=data)
        run.test(task, datamodule=data, verbose=False)
        results.append({k: float(v) for k, v in run.callback_metrics.items()})
    assert results[0]["test/loss@16"] == pytest.approx(results[1]["test/loss@16"], rel=1e-5)
    assert results[0]["test/entropy@64"] > results[1]["test/entropy@64"]


def _sums(rank, world_size):
    torch.manual_seed(0)
    logits, labels = torch.randn(21, 5), torch.randint(0, 5, (21,))
    tally = Tally()
    part = slice(0, 8) if rank == 0 else slice(8, 21)
    tally.add(logits[part], labels[part])
    return tally.read()


@pytest.mark.slow
def test_counts_are_added_over_ranks():
    torch.manual_seed(0)
    whole = Tally()
    whole.add(torch.randn(21, 5), torch.randint(0, 5, (21,)))
    for found in run_ranks(_sums, 2):
        assert found == pytest.approx(whole.read())
