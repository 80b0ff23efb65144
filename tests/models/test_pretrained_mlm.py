"""A saved folder in whole runs: trained on, and tested as it is with another scaling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

from kexue_pl.attention import EntropyInvariant, install
from kexue_pl.models.masked_lm import MaskedLM
from kexue_pl.run.train import train
from tests.support.runs import composed, weights_digest

QUIET = ("trainer.enable_progress_bar=false", "trainer.enable_model_summary=false")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: Any) -> tuple[Path, Path]:
    """A BERT folder and a text to test it on."""
    folder = tmp_path_factory.mktemp("bert")
    text = folder / "text.txt"
    text.write_text(
        "".join(f"def f{i % 17}(x): return x * {i % 7}\n" for i in range(6000)), encoding="utf-8"
    )
    tokenizer = MaskedLM(vocab_size=400).train_tokenizer([text.read_text(encoding="utf-8")])
    torch.manual_seed(0)
    config = hf.BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=128,
    )  # fmt: skip
    model = hf.BertForMaskedLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return folder / "model", text


def words(saved: tuple[Path, Path], folder: Path, *more: str) -> tuple[str, ...]:
    model, text = saved
    return (
        "task=mlm", "data=text", f"data.train={text}", "model=pretrained_mlm",
        f"model.path={model}", "data.train_length=16", "data.eval_lengths=[16,64]",
        "data.test_tokens=512", "data.batch_size=8", f"paths.cache={folder}/cache", *QUIET, *more,
    )  # fmt: skip


def metrics(folder: Path) -> dict[str, float]:
    found = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert found["status"] == "completed"
    return dict(found["metrics"])


def test_tested_without_training_with_either_scaling(tmp_path, saved):
    for name in ("standard", "entropy_invariant"):
        more = ("train=false", f"attention={name}")
        train(composed(tmp_path / name, *words(saved, tmp_path, *more)))
    plain, scaled = metrics(tmp_path / "standard"), metrics(tmp_path / "entropy_invariant")
    # base is the training length: there nothing changes, beyond it attention is sharper
    assert plain["test/loss@16"] == pytest.approx(scaled["test/loss@16"], rel=1e-5)
    assert plain["test/loss@64"] != pytest.approx(scaled["test/loss@64"], rel=1e-5)
    assert plain["test/entropy@64"] > scaled["test/entropy@64"]
    assert not list((tmp_path / "standard").rglob("*.ckpt"))

    # and the figure is the model's own: transformers alone gives the loss of the same rows
    from kexue_pl.run.train import assemble

    data, _ = assemble(composed(tmp_path / "own", *words(saved, tmp_path)))
    model = hf.BertForMaskedLM.from_pretrained(saved[0]).eval()
    for name, scaling in (("standard", None), ("entropy_invariant", EntropyInvariant(base=16))):
        if scaling is not None:
            install(model, scaling)
        losses, hidden = 0.0, 0
        for batch in data.test_dataloader()[1]:
            with torch.no_grad():
                out = model(input_ids=batch["input_ids"], labels=batch["labels"])
            count = int((batch["labels"] >= 0).sum())
            losses, hidden = losses + float(out.loss) * count, hidden + count
        want = metrics(tmp_path / name)["test/loss@64"]
        assert losses / hidden == pytest.approx(want, rel=1e-4)


def test_training_continues_from_the_folder(tmp_path, saved):
    given = words(saved, tmp_path, "attention=entropy_invariant", "trainer.max_steps=60")
    train(composed(tmp_path / "before", *given, "train=false"))
    train(composed(tmp_path / "run", *given, "optimizer.lr=1e-3"))
    before, after = metrics(tmp_path / "before"), metrics(tmp_path / "run")
    assert after["test/loss@16"] < before["test/loss@16"] - 0.3
    still = composed(tmp_path / "still", *given, "optimizer.lr=1e-12", "trainer.max_steps=2")
    train(still)  # it starts from the weights of the folder, not from fresh ones
    assert metrics(tmp_path / "still")["test/loss@16"] == pytest.approx(
        before["test/loss@16"], abs=1e-3
    )
    assert weights_digest(tmp_path / "run" / "checkpoints" / "last.ckpt") != weights_digest(
        tmp_path / "still" / "checkpoints" / "last.ckpt"
    )


def test_dropout_acts_on_a_model_that_was_loaded(tmp_path, saved):
    digests = []
    for dropout in (0.0, 0.5):
        folder = tmp_path / str(dropout)
        more = (
            "trainer.max_steps=3",
            "test=false",
            f"model.dropout={dropout}",
            "optimizer.lr=1e-3",
        )
        train(composed(folder, *words(saved, tmp_path, *more)))
        digests.append(weights_digest(folder / "checkpoints" / "last.ckpt"))
    assert digests[0] != digests[1]
