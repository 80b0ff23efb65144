from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from kexue_pl.data.encoded import EncodedPairs
from kexue_pl.data.files import Files
from kexue_pl.data.world_pairs import WorldPairs
from kexue_pl.models import Small, Static
from kexue_pl.models.tokenizers import train_tokenizer
from kexue_pl.reading import DataError


def world(**options: object) -> WorldPairs:
    data = WorldPairs(train=120, valid=20, test=20, **options)  # type: ignore[arg-type]
    data.setup("fit")
    data.tokenizer = train_tokenizer(data.texts())
    return data


def test_world_pairs_are_tokenized_once_and_padded() -> None:
    data = world()
    data.use(Static(hidden_size=4).build(data.tokenizer), joined=False)
    assert isinstance(data.train_set, EncodedPairs) and len(data.train_set) == 120
    batch = next(iter(data.val_dataloader()))
    assert batch["label"].dtype == torch.float32 and batch["row_id"].tolist() == list(range(20))
    text = data.tables["valid"].columns["text2"][3]
    wanted = data.tokenizer(text, add_special_tokens=False).input_ids
    length = int(batch["right_mask"][3].sum())
    assert batch["right_ids"][3, :length].tolist() == wanted
    assert (batch["right_ids"][batch["right_mask"] == 0] == data.tokenizer.pad_token_id).all()


def test_joined_pairs_equal_the_tokenizer() -> None:
    data = world(labels="graded")
    encoder = Small(hidden_size=8, heads=2, layers=1, max_length=16).build(data.tokenizer)
    data.use(encoder, joined=True)
    batch = next(iter(data.test_dataloader()))
    row = data.tables["test"][5]
    wanted = data.tokenizer(
        row["text1"], row["text2"], truncation="longest_first", max_length=16,
        return_token_type_ids=True,
    )  # fmt: skip
    size = len(wanted.input_ids)
    assert batch["input_ids"][5, :size].tolist() == wanted.input_ids
    assert batch["token_type_ids"][5, :size].tolist() == wanted.token_type_ids
    assert batch["input_ids"].shape[1] <= 16 and float(batch["label"].max()) == 5


def test_special_tokens_survive_the_cut(caplog: pytest.LogCaptureFixture) -> None:
    data = world()
    encoder = Small(hidden_size=8, heads=2, layers=1, max_length=6).build(data.tokenizer)
    data.use(encoder, joined=False)
    assert isinstance(data.train_set, EncodedPairs)
    ids = data.train_set[0]["left"]
    assert len(ids) == 6 and ids[-1] == data.tokenizer.sep_token_id
    assert "texts were cut to 6 tokens" in caplog.text


def write(folder: Path, name: str, rows: int, offset: int = 0, label: str = "") -> str:
    lines = [f"甲{i}\t乙{i}\t{label or i % 2}" for i in range(offset, offset + rows)]
    (folder / name).write_text("\n".join(lines), encoding="utf-8")
    return str(folder / name)


def test_files_hold_out_and_drop_leaks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train, test = write(tmp_path, "train.tsv", 100), write(tmp_path, "test.tsv", 20, offset=95)
    data = Files(train=train, test=test)
    data.setup("fit")
    assert len(data.tables["valid"]) == 10
    assert "training rows that are also evaluated were left out" in caplog.text
    assert len(data.tables["train"]) + len(data.tables["valid"]) <= 96
    again = Files(train=train, test=test, drop_leaked=False)
    again.setup("fit")
    assert len(again.tables["train"]) == 90


def test_one_class_is_said_aloud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, "a.tsv", 30, label="1")
    Files(train=path).setup("fit")
    assert "data.train has one label value only (1)" in caplog.text


def test_length_cue_is_said_aloud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [f"{'长' * (1 + i % 7)}{i}\t乙{i}\t{int(i % 7 > 3)}" for i in range(200)]
    (tmp_path / "train.tsv").write_text("\n".join(rows), encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        Files(train=str(tmp_path / "train.tsv"), valid=write(tmp_path, "v.tsv", 50)).setup("fit")
    assert "data.bucket=true takes that cue away" in caplog.text


def test_negatives_need_no_label(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    line = '{"anchor": "a%d", "positive": "p%d", "negative": "n%d"}\n'
    path.write_text("".join(line % (i, i, i) for i in range(8)), encoding="utf-8")
    data = Files(train=str(path), valid=write(tmp_path, "v.tsv", 6))
    data.setup("fit")
    data.tokenizer = train_tokenizer(data.texts())
    data.use(Static(hidden_size=4).build(data.tokenizer), joined=False)
    assert isinstance(data.train_set, EncodedPairs)
    batch = data.collate([data.train_set[0], data.train_set[1]])
    assert "label" not in batch and batch["negative_ids"].shape[0] == 2
    with pytest.raises(DataError, match=r"data.valid has no labels"):
        Files(train=str(path), valid=str(path)).setup("fit")


def test_unusable_split_and_settings(tmp_path: Path) -> None:
    path = tmp_path / "hub.tsv"
    path.write_text("".join(f"同\t乙{i}\t{i % 2}\n" for i in range(300)), encoding="utf-8")
    with pytest.raises(DataError, match=r"cannot be split by data.valid_share=0.1"):
        Files(train=str(path)).setup("fit")
    with pytest.raises(ValueError, match=r"data.split='half': expected components or random"):
        Files(train="x", split="half")
    with pytest.raises(ValueError, match=r"data.labels='soft': expected binary or graded"):
        WorldPairs(labels="soft")
    with pytest.raises(ValueError, match=r"data.label='x': expected one of auto"):
        Files(train="x", label="x")
