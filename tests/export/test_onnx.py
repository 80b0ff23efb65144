from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kexue_pl.data.pair_data import PairData
from kexue_pl.export.cli import main
from kexue_pl.predict.restore import Restored, restore
from kexue_pl.predict.texts import encode
from kexue_pl.reading import Table
from tests.support.matching_runs import SMALL, STATIC, write_run

PAIRS = [
    ("氢的原子序数是多少", "Hello 世界"),
    ("法国的首都", "长" * 15),
    ("氢", "铁的熔点"),
    ("甲", "甲"),
]
CROSS = SMALL | {"interaction": "cross"}


def session(run: Path, out: Path) -> Any:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main([f"checkpoint={run}", f"output={out}", "format=onnx"]) == 0
    return runtime.InferenceSession(str(out / "model.onnx"), providers=["CPUExecutionProvider"])


def batch_of(restored: Restored, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    data = PairData(batch_size=8)
    data.tokenizer, model = restored.tokenizer, restored.task.model
    columns = {"text1": [a for a, _ in pairs], "text2": [b for _, b in pairs]}
    table = Table(columns, [("", 1)] * len(pairs))
    encoded = data.encode(table, model.encoder, joined=model.joined)
    data.set_padding()
    return data.collate([encoded[row] for row in range(len(pairs))])


@pytest.mark.slow
@pytest.mark.parametrize("model", [STATIC, SMALL], ids=str)
def test_a_bi_encoder_gives_the_same_embeddings(model: dict[str, Any], tmp_path: Path) -> None:
    write_run(tmp_path / "run", model)
    opened, restored = session(tmp_path / "run", tmp_path / "out"), restore(tmp_path / "run")
    texts = [left for left, _ in PAIRS]
    batch = batch_of(restored, [(text, text) for text in texts])
    fed = {"input_ids": batch["left_ids"].numpy(), "attention_mask": batch["left_mask"].numpy()}
    (got,) = opened.run(None, fed)
    np.testing.assert_allclose(got, encode(restored, texts).numpy(), atol=1e-4)
    width = int(batch["left_mask"][2].sum())  # another batch, another length
    one = {name: value[2:3, :width] for name, value in fed.items()}
    np.testing.assert_allclose(opened.run(None, one)[0], got[2:3], atol=1e-4)
    told = json.loads((tmp_path / "out" / "matching.json").read_text("utf-8"))
    assert told["threshold"] == pytest.approx(0.4) and told["output"] == "sentence_embedding"
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert "onnxruntime" in card and "0.400000" in card and str(tmp_path) not in card


@pytest.mark.slow
@pytest.mark.parametrize(
    "model", [CROSS, STATIC | {"interaction": "cross"}, STATIC | {"interaction": "late"}], ids=str
)
def test_pairs_get_the_same_scores(model: dict[str, Any], tmp_path: Path) -> None:
    write_run(tmp_path / "run", model)
    opened, restored = session(tmp_path / "run", tmp_path / "out"), restore(tmp_path / "run")
    for pairs in (PAIRS, PAIRS[:1]):
        batch = batch_of(restored, pairs)
        inputs = [one.name for one in opened.get_inputs()]
        (got,) = opened.run(None, {name: batch[name].numpy() for name in inputs})
        with torch.inference_mode():
            wanted = restored.task.scores(batch)
        np.testing.assert_allclose(got.reshape(-1), wanted.numpy(), atol=1e-4)


def test_a_folder_with_files_is_refused(tmp_path: Path, capsys: Any) -> None:
    write_run(tmp_path / "run", STATIC)
    words = [f"checkpoint={tmp_path / 'run'}", f"output={tmp_path / 'run'}"]
    assert main([*words, "format=onnx"]) == 1
    assert "not empty; name a new folder" in capsys.readouterr().err
