from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kexue_pl.export.cli import main
from kexue_pl.export.sentence_transformers import export_sentence_transformers
from kexue_pl.models import Pretrained
from kexue_pl.predict.pairs import score_pairs
from kexue_pl.predict.restore import restore
from kexue_pl.predict.texts import encode
from kexue_pl.reading import Table
from kexue_pl.run.errors import RunError
from tests.support.matching_runs import SMALL, STATIC, write_run

TEXTS = ["氢的原子序数是多少", "Hello 世界", "法国的首都", "长" * 60]


def sentence_transformers() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("sentence_transformers")


@pytest.mark.parametrize(
    "model", [STATIC, SMALL, SMALL | {"pooling": "cls"}, SMALL | {"pooling": "max"}], ids=str
)
def test_bi_encoders_give_the_same_embeddings(model: dict[str, Any], tmp_path: Path) -> None:
    library = sentence_transformers()
    write_run(tmp_path / "run", model)
    folder = export_sentence_transformers(restore(tmp_path / "run"), tmp_path / "out")
    wanted = encode(restore(tmp_path / "run"), TEXTS).numpy()
    got = library.SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    assert list(folder.rglob("*.safetensors")) and not list(folder.rglob("*.bin"))
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "0.400000" in card and "CoSENT" in card and str(tmp_path) not in card


@pytest.mark.parametrize("loss", ["cosent.CoSENT", "bce.BCE", "softmax.Softmax"])
def test_cross_encoders_give_the_same_logits(loss: str, tmp_path: Path) -> None:
    library = sentence_transformers()
    model = SMALL | {"interaction": "cross", "match_flag": False, "dropout": 0.0}
    write_run(tmp_path / "run", model, loss=loss)
    restored = restore(tmp_path / "run")
    folder = export_sentence_transformers(restored, tmp_path / "out")
    pairs = [(TEXTS[0], TEXTS[1]), (TEXTS[2], TEXTS[3])]
    got = torch.tensor(library.CrossEncoder(str(folder), device="cpu").predict(pairs))
    table = Table({"text1": [a for a, _ in pairs], "text2": [b for _, b in pairs]}, [("", 1)] * 2)
    wanted = score_pairs(restored, table)
    ranked = got.softmax(-1)[:, 1] if loss == "softmax.Softmax" else got
    torch.testing.assert_close(ranked, wanted, atol=1e-5, rtol=0)


def test_an_exported_folder_is_a_pretrained_model(tmp_path: Path) -> None:
    sentence_transformers()
    _, task = write_run(tmp_path / "run", SMALL | {"pooling": "cls"})
    folder = export_sentence_transformers(restore(tmp_path / "run"), tmp_path / "out")
    spec = Pretrained(path=str(folder))
    again = spec.build(spec.load_tokenizer()).eval()
    assert spec.pooling == "cls" and again.max_length == 24
    ids, mask = torch.arange(5, 12)[None], torch.ones(1, 7, dtype=torch.long)
    torch.testing.assert_close(again(ids, mask), task.model.encoder(ids, mask))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (SMALL | {"interaction": "late"}, "train with model.interaction=bi or cross"),
        (SMALL | {"interaction": "cross"}, "train with model.match_flag=false"),
        (SMALL | {"pooling": "first_last_mean"}, "use mean, cls or max"),
        (STATIC | {"interaction": "cross"}, "use model=small or pretrained"),
        (STATIC | {"bigrams": 32}, "model.bigrams=0"),
    ],
)
def test_unknown_parts_are_refused(model: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_run(tmp_path / "run", model)
    with pytest.raises(RunError, match=message):
        export_sentence_transformers(restore(tmp_path / "run"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "run", STATIC)
    words = [f"checkpoint={tmp_path / 'run'}", f"output={tmp_path / 'out'}"]
    assert main(["format=pickle", *words]) == 1
    assert "expected sentence_transformers or onnx" in capsys.readouterr().err
    assert main(words) == 0 and main(words) == 1
    assert "not empty; name a new folder" in capsys.readouterr().err
    assert main([]) == 0
