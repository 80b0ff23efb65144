"""A run that began with a pretrained folder does not need it any more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kexue_pl.models import Small
from kexue_pl.models.tokenizers import train_tokenizer
from kexue_pl.predict.cli import main
from kexue_pl.predict.restore import restore
from kexue_pl.predict.texts import encode
from kexue_pl.run.train import train
from tests.support.runs import composed

LINES = ["氢的符号\t氢的字母\t1", "氧的符号\t氧的字母\t1", "铁的熔点\t氢的符号\t0", "铜\t金\t0"] * 4


def folder_of(path: Path) -> str:
    """A pretrained model with pooling of its own, as sentence-transformers writes it."""
    texts = [text for line in LINES for text in line.split("\t")[:2]]
    tokenizer = train_tokenizer(texts, min_frequency=1)
    encoder = Small(hidden_size=16, layers=1, heads=2, max_length=20).build(tokenizer)
    encoder.body.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Checkpoint directory")
@pytest.mark.parametrize("how", ["bi", "cross"])
def test_predict_export_and_resume_work_after_the_folder_is_gone(how: str, tmp_path: Path) -> None:
    folder = tmp_path / "pretrained"
    words = ["task=matching", "data=files", "model=pretrained", f"model.path={folder_of(folder)}"]
    words += [f"model.interaction={how}", "model.pooling=max", "threads=1", "data.batch_size=8"]
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    words += [f"data.train={pairs}", f"data.valid={pairs}", "data.drop_leaked=false"]
    train(composed(tmp_path / "run", *words, "trainer.max_epochs=1"))
    asked = [f"checkpoint={tmp_path / 'run'}", f"input={pairs}"]
    assert main([*asked, f"output={tmp_path / 'before.tsv'}"]) == 0
    folder.rename(tmp_path / "moved")
    assert main([*asked, f"output={tmp_path / 'after.tsv'}"]) == 0
    before, after = ((tmp_path / f"{name}.tsv").read_text("utf-8") for name in ("before", "after"))
    assert before == after
    found = train(composed(tmp_path / "run", *words, "trainer.max_epochs=2", "resume=auto"))
    assert np.isfinite(found["test/accuracy"])
    library = pytest.importorskip("sentence_transformers")
    from kexue_pl.export.cli import main as export

    out = tmp_path / "out"
    assert export([f"checkpoint={tmp_path / 'run'}", f"output={out}"]) == 0
    if how == "bi":
        got = library.SentenceTransformer(str(out), device="cpu").encode(["氢的符号"])
        np.testing.assert_allclose(got, encode(restore(tmp_path / "run"), ["氢的符号"]), atol=1e-5)
