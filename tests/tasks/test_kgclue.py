"""The task on a tiny base: learns, answers with keys only, survives checkpoints and ranks."""

from __future__ import annotations

import json
import random
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from omegaconf import OmegaConf

from kexue_pl.data.keyed_pairs import KeyedPairs
from kexue_pl.data.kgclue import KgCLUE
from kexue_pl.distributed import rank, world_size
from kexue_pl.models.encoder_decoder import EncoderDecoder
from kexue_pl.models.unilm import UniLM
from kexue_pl.run.build import build
from kexue_pl.run.config import config_dir
from kexue_pl.run.overrides import options
from kexue_pl.tasks.kgclue import KgclueTask
from tests.support.ranks import run_ranks

PREDICATES = ["首都", "人口", "面积", "语言"]


def write(folder: Path) -> tuple[str, str]:
    paths = []
    for name, span in (("train", range(40)), ("valid", range(40, 51))):
        rows = []
        for i in span:
            subject, p = f"国{chr(0x4E00 + 37 * i)}", PREDICATES[i % 4]
            rows.append({"question": f"{subject}的{p}呢", "answer": f"{subject} ||| {p} ||| {i}"})
        path = folder / f"{name}.json"
        path.write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in rows), "utf-8")
        paths.append(str(path))
    return paths[0], paths[1]


def make(folder: Path, **settings: Any) -> tuple[KgclueTask, KgCLUE]:
    train, valid = write(folder)
    data = KgCLUE(train=train, valid=valid, base="rich", batch_size=8, eval_batch_size=4)
    data.setup("fit")
    spec = UniLM(hidden_size=32, layers=1, heads=2, max_length=64, dropout=0.0)
    data.tokenizer = spec.train_tokenizer(data.texts())
    torch.manual_seed(0)
    optimizer = partial(torch.optim.AdamW, lr=3e-3)
    settings = {"lexical_steps": 30, **settings}
    return KgclueTask(data=data, model=spec, optimizer=optimizer, **settings), data


def trainer(epochs: int) -> L.Trainer:
    return L.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[KgclueTask, KgCLUE, dict[str, float]]:
    task, data = make(tmp_path_factory.mktemp("kgclue"))
    run = trainer(3)
    run.fit(task, datamodule=data)
    metrics = {k: float(v) for k, v in run.callback_metrics.items()}
    run.test(task, datamodule=data, verbose=False)
    return task, data, {**metrics, **{k: float(v) for k, v in run.callback_metrics.items()}}


def test_all_figures_are_there_and_all_answers_are_keys(fitted: Any) -> None:
    task, _, metrics = fitted
    for method in ("combined", "lexical", "less_prior", "seq2seq", "rule"):
        assert metrics[f"test/{method}/keys"] == 100
        for name in ("em", "f1", "score", "em_s", "em_p", "em_o", "em_all"):
            assert 0 <= metrics[f"test/{method}/{name}"] <= 100
    assert metrics["test/unconstrained/keys"] <= 100
    assert metrics["test/score"] == metrics["test/combined/score"]
    assert {"val/loss", "val/score", "val/em"} <= set(metrics)
    methods = {row["method"] for row in task.tables()["methods"]}
    assert methods == {"combined", "lexical", "less_prior", "seq2seq", "rule", "unconstrained"}
    wrong = task.tables()["errors"]
    assert len(wrong) == round(11 * (100 - metrics["test/em"]) / 100)


def test_training_lowers_the_loss_and_finds_names(fitted: Any, tmp_path: Path) -> None:
    _, _, metrics = fitted
    fresh, data = make(tmp_path)
    run = trainer(1)
    run.validate(fresh, datamodule=data, verbose=False)
    assert metrics["val/loss"] < float(run.callback_metrics["val/loss"]) - 0.5
    assert metrics["test/combined/em_s"] == metrics["test/rule/em_s"] == 100


def test_checkpoint_holds_primitives_and_answers_alike(fitted: Any, tmp_path: Path) -> None:
    task, _, _ = fitted
    checkpoint: dict[str, Any] = {"state_dict": task.state_dict()}
    task.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "c.ckpt")
    loaded = torch.load(tmp_path / "c.ckpt", weights_only=True)
    again, data = make(tmp_path)
    again.on_load_checkpoint(loaded)
    again.load_state_dict(loaded["state_dict"])
    texts = [row["question"] for row in data.test_set]
    for method in ("combined", "lexical", "less_prior", "seq2seq"):
        one = task.eval().answerer().answer(method, texts)
        two = again.eval().answerer().answer(method, texts)
        assert [f[0].answer for f in one] == [f[0].answer for f in two]
        assert [f[0].log_p for f in one] == pytest.approx([f[0].log_p for f in two], abs=1e-4)


def test_the_order_of_the_base_changes_no_answer(fitted: Any, tmp_path: Path) -> None:
    """Nor what the lexical scores learn from it."""
    task, _, _ = fitted
    again, data = make(tmp_path)
    order = list(data.base)
    random.Random(1).shuffle(data.base)
    assert data.base != order and sorted(data.base) == sorted(order)
    again.load_state_dict(task.state_dict())
    texts = [row["question"] for row in data.test_set]
    for method in task.eval().answerer().methods():
        one = task.answerer().answer(method, texts)
        two = again.eval().answerer().answer(method, texts)
        assert [[f.answer for f in found] for found in one] == [
            [f.answer for f in found] for found in two
        ], method


def test_batch_equals_one_by_one(fitted: Any) -> None:
    task, data, _ = fitted
    texts = [row["question"] for row in data.test_set]
    answerer = task.eval().answerer()
    for method in answerer.methods():
        together = answerer.answer(method, texts)
        for text, found in zip(texts[:3], together, strict=False):
            (alone,) = answerer.answer(method, [text])
            assert [f.answer for f in alone] == [f.answer for f in found]
            assert [f.log_p for f in alone] == pytest.approx([f.log_p for f in found], abs=1e-4)


def test_score_of_the_beam_is_the_teacher_forced_likelihood(fitted: Any) -> None:
    task, data, _ = fitted
    task.eval()
    text = data.test_set[0]["question"]
    settings = task.answerer().settings
    object.__setattr__(settings, "renormalise", False)
    object.__setattr__(settings, "lookahead", False)
    try:
        (found,) = task.answerer().beam([text])
    finally:
        object.__setattr__(settings, "renormalise", True)
        object.__setattr__(settings, "lookahead", True)
    ids, _ = data.sources([text])
    tokens = torch.tensor([[*ids[0].tolist(), *found[0].tokens]])
    segment = torch.tensor([[0] * ids.shape[1] + [1] * len(found[0].tokens)])
    with torch.no_grad():
        log_p = task.model.target_log_p(tokens, segment, torch.ones_like(tokens))
    assert found[0].score == pytest.approx(float(log_p.double().sum()), abs=1e-5)


@pytest.mark.parametrize("name", [o for o in options("attention") if o != "none"])
def test_every_attention_option_trains_and_decodes_alike(name: str, tmp_path: Path) -> None:
    node = OmegaConf.load(config_dir() / "attention" / f"{name}.yaml")
    attention = build(OmegaConf.to_container(node, resolve=True))
    task, data = make(tmp_path, attention=attention, lexical=0)
    batch = data.collate([{**data.train_set[i], "row_id": i, "epoch": 0} for i in range(4)])
    task.loss(batch).backward()
    assert all(p.grad is not None for p in task.parameters() if p.requires_grad)
    task.eval()
    (found,) = task.answerer().beam([data.test_set[0]["question"]])
    assert found[0].hi > found[0].lo


def test_the_constrained_loss_is_that_over_the_allowed_tokens(tmp_path: Path) -> None:
    """By hand, from the whole distribution, on rows with names that were exchanged."""
    task, data = make(tmp_path, lexical=0, constrained=2.0)
    rows = [{**data.train_set[i], "row_id": i, "epoch": 0} for i in range(8)]
    plain = float(task.loss(data.collate(rows)).detach())
    task.on_fit_start()
    batch = data.collate(rows)
    choices = batch["choices"]
    with torch.no_grad():
        log_p = task.model(batch["input_ids"], batch["segment"], batch["attention_mask"])
    total, places = 0.0, 0
    for b, segment in enumerate(batch["segment"]):
        first = int(segment.argmax())
        for t in range(int(segment.sum())):
            allowed = [c for c in choices[b, t].tolist() if c >= 0]
            right, at = int(batch["input_ids"][b, first + t]), log_p[b, first + t - 1]
            if allowed:
                assert right in allowed and len(allowed) > 1
                total += float(at[allowed].logsumexp(0) - at[right])
                places += 1
    assert places > 8  # the predicate of each, and some names
    want = plain + 2 * total / float(batch["segment"].sum())
    assert float(task.loss(batch).detach()) == pytest.approx(want, abs=1e-5)
    assert "choices" not in data.collate([{**row, "train": False} for row in rows])
    with pytest.raises(ValueError, match=r"task.constrained=-1"):
        make(tmp_path, constrained=-1)


def test_lexical_can_be_switched_off(tmp_path: Path) -> None:
    task, _ = make(tmp_path, lexical=0)
    assert task.answerer().methods() == ["less_prior", "seq2seq", "rule", "unconstrained"]
    task, _ = make(tmp_path, lexical=0, prior=0)
    assert task.answerer().methods() == ["seq2seq", "rule", "unconstrained"]
    task, _ = make(tmp_path, seq2seq=0)
    assert task.answerer().methods() == ["lexical", "seq2seq", "rule", "unconstrained"]
    with pytest.raises(ValueError, match=r"task.beams=0"):
        make(tmp_path, beams=0)


def test_unknown_names_fall_back_to_the_beam(fitted: Any) -> None:
    task, _, _ = fitted
    (found,) = task.eval().answerer().answer("combined", ["这是什么"])
    assert found and found[0].is_key
    assert task.answerer().answer("rule", ["这是什么"]) == [[]]


SMALL = {"hidden_size": 32, "layers": 1, "heads": 2, "max_length": 32}
SPECS = [UniLM(**SMALL), EncoderDecoder(**SMALL), EncoderDecoder(kind="t5", **SMALL)]


@pytest.mark.parametrize("spec", SPECS, ids=["unilm", "bart", "t5"])
def test_flat_keys(tmp_path: Path, spec: Any) -> None:
    rows = "".join(f"找{c}\t{c}\n" for c in "甲乙丙丁戊己")
    for name in ("train", "valid"):
        (tmp_path / f"{name}.tsv").write_text(rows, encoding="utf-8")
    data = KeyedPairs(
        train=str(tmp_path / "train.tsv"), valid=str(tmp_path / "valid.tsv"), batch_size=6
    )
    data.setup("fit")
    data.tokenizer = spec.train_tokenizer(data.texts())
    optimizer = partial(torch.optim.AdamW, lr=1e-2)
    task = KgclueTask(data=data, model=spec, optimizer=optimizer, constrained=1.0)
    run = trainer(1)
    run.fit(task, datamodule=data)
    run.test(task, datamodule=data, verbose=False)
    metrics = run.callback_metrics
    assert float(metrics["test/seq2seq/keys"]) == 100 and "test/rule/em" not in metrics


def decode(here: int, world: int, folder: str) -> tuple[float, list[int], dict[str, float]]:
    """Loss of this rank's share of one batch, and the test's figures over all ranks."""
    assert (rank(), world_size()) == (here, world)
    path = Path(folder) / str(here)
    path.mkdir(exist_ok=True)
    task, data = make(path, lexical=0, prior=0, baselines=False, constrained=1.0)
    task.on_fit_start()
    task.eval()
    batch = data.collate(
        [{**data.train_set[i], "row_id": i, "epoch": 0} for i in range(here, 8, world)]
    )
    loss = float(task.loss(batch).detach())
    task.on_test_epoch_start()
    numbers = []
    for rows in data.test_dataloader():
        task.test_step(rows, 0)
        numbers += rows["row_id"].tolist()
    scores = task._scored("seq2seq", data.test_set)
    return loss, numbers, scores


@pytest.mark.slow
def test_ranks_share_the_questions_and_agree(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    loss, numbers, scores = decode(0, 1, str(tmp_path / "one"))
    out = run_ranks(decode, 2, str(tmp_path / "two"))
    assert sorted(out[0][1] + out[1][1]) == numbers == list(range(11))
    assert out[0][2] == out[1][2] == pytest.approx(scores)
    # Gradients, hence losses, are averaged over ranks.
    assert (out[0][0] + out[1][0]) / 2 == pytest.approx(loss, abs=1e-5)
