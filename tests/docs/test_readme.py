"""Every command and every snippet of the README is run; the two READMEs hold the same ones."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from kexue_pl.models.tokenizers import train_tokenizer
from tests.docs.commands import ROOT, blocks, commands, run

TRAIN = [c for c in commands("README.md") if c.startswith("python train.py") and "..." not in c]
KINDS = ("make ", "python ", "torchrun ")


def test_both_languages_hold_the_same_commands() -> None:
    chinese = [c.replace("目录", "FOLDER") for c in commands("README.zh-CN.md")]
    assert chinese == commands("README.md")
    both = [
        re.sub(r"\s*#.*", "", "".join(blocks(p, "python")))
        for p in ("README.md", "README.zh-CN.md")
    ]
    assert both[0] == both[1]


def test_every_line_is_of_a_kind_that_is_tested() -> None:
    assert [c for c in commands("README.md") if not c.startswith(KINDS)] == []
    for target in [c.split()[1] for c in commands("README.md") if c.startswith("make ")]:
        assert f"\n{target}: " in (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with what the commands name: files of pairs, a pretrained model."""
    rows = [(f"问题{i}", f"问题{i + i % 2}", i % 2) for i in range(12)]
    for name in ("train", "valid"):
        tsv = "".join(f"{a}\t{b}\t{y}\n" for a, b, y in rows)
        (tmp_path / f"{name}.tsv").write_text(tsv, encoding="utf-8")
        lines = [json.dumps({"text1": a, "text2": b, "label": y}) for a, b, y in rows]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    tokenizer = train_tokenizer([a for a, _, _ in rows], kind="char", vocab_size=600)
    tokenizer.save_pretrained(tmp_path / "FOLDER")
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(tmp_path / "FOLDER")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("command", TRAIN)
def test_training_command(command: str, folder: Path) -> None:
    done = run(command, folder)
    assert done.code == 0, done.err
    found = list(folder.glob("outputs/**/summary.json"))
    assert found
    assert all(json.loads(path.read_text())["status"] == "completed" for path in found)


@pytest.mark.slow
def test_using_what_was_trained(folder: Path) -> None:
    texts = "".join(f"问题{i}\n" for i in range(5))
    (folder / "texts.txt").write_text(texts, encoding="utf-8")
    (folder / "corpus.txt").write_text(texts, encoding="utf-8")
    (folder / "pairs.tsv").write_text((folder / "train.tsv").read_text("utf-8"), encoding="utf-8")
    for line in (
        "python train.py task=matching paths.output_dir=RUN",
        "python train.py task=kgclue paths.output_dir=KGCLUE_RUN",
        "python train.py task=matching paths.output_dir=RUN resume=auto",
        "python train.py task=matching accelerator=ddp_cpu",
    ):
        done = run(line, folder)
        assert done.code == 0, f"{line}\n{done.err}"
    using = [c for c in commands("README.md") if c.startswith("python scripts/")]
    assert len(using) >= 5
    for line in using:
        line = line.replace("output=FOLDER", "output=exported").replace(
            "report.py DIR", "report.py RUN"
        )
        if "reproduce" in line or "bench" in line:
            continue  # tests/scripts
        done = run(line, folder)
        assert done.code == 0, f"{line}\n{done.err}"
    assert (folder / "exported" / "modules.json").is_file()
    assert (folder / "vectors.npy").stat().st_size > 0


def test_library_snippet() -> None:
    scores = torch.tensor([0.9, 0.2, 0.7, 0.1])
    weights = torch.nn.Parameter(torch.ones(3))
    names = {
        "cosine": scores,
        "scores": scores,
        "labels": torch.tensor([1, 0, 1, 0]),
        "gram": torch.eye(2, dtype=torch.float64),
        "losses": torch.ones(2),
        "optimizer": torch.optim.AdamW([weights], lr=0.1),
    }
    (text,) = blocks("README.md", "python")
    exec(compile(text, "README.md", "exec"), names)
    assert float(names["loss"]) >= 0
    assert names["weights"].tolist() == [0.5, 0.5]
