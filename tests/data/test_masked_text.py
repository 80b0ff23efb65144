"""Packed text: no padding, the same hidden tokens at every length, masks by epoch and row."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from kexue_pl.data.lengths import check_lengths
from kexue_pl.data.masked_text import Chunks
from kexue_pl.data.masking import MaskRule
from kexue_pl.data.packing import pack
from kexue_pl.data.stdlib import Stdlib
from kexue_pl.data.text import Text, pieces
from kexue_pl.documents import Documents, cached
from kexue_pl.models.masked_lm import MaskedLM
from kexue_pl.reading import DataError

RULE = MaskRule(rate=0.15, mask_id=0, vocab_size=500, first=1)


@pytest.fixture(scope="module")
def tokenizer():
    return MaskedLM(vocab_size=400).train_tokenizer(["def foo(bar):\n    return bar + 1\n"] * 3)


def prepared(data, tokenizer, cache=None):
    data.cache_dir = cache
    data.setup("fit")
    data.tokenizer = tokenizer
    return data


def test_the_same_tokens_are_hidden_at_every_length():
    tokens = np.random.default_rng(0).integers(1, 500, 4096).astype(np.int32)
    flat = {}
    for n in (64, 256, 1024):
        rows = Chunks(tokens, n, 4096 // n, rule=RULE, block=64)
        parts = [rows[i] for i in range(len(rows))]
        flat[n] = [np.concatenate([part[name] for part in parts]) for name in parts[0]]
    for n in (256, 1024):
        assert all(np.array_equal(a, b) for a, b in zip(flat[64], flat[n]))
    inputs, labels = flat[64]
    assert np.array_equal(np.where(labels >= 0, labels, inputs), tokens)
    assert (labels >= 0).sum() == 4096 // 64 * 10


def test_chunks_end():
    rows = Chunks(np.arange(10, dtype=np.int32), 4, 2)
    assert [row["tokens"].tolist() for row in rows] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_pack_has_no_padding_and_is_made_once(tmp_path, tokenizer):
    texts = ["def foo():\n", "return bar", "# déjà vu 中"]
    reads = []

    def read():
        reads.append(1)
        return texts

    documents = Documents(read, "key", tmp_path)
    tokens = pack(documents, tokenizer)
    assert tokenizer.decode(tokens.tolist()) == "".join(texts)
    assert np.array_equal(pack(documents, tokenizer), tokens)
    assert len(reads) == 1
    assert len(pack(documents, tokenizer, max_tokens=5)) == 5
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(ValueError, match="no tokens"):
        pack(Documents(list, "none", tmp_path), tokenizer)


def test_packing_holds_a_few_documents_at_a_time(tmp_path, tokenizer):
    alive, most = 0, 0

    class Text(str):
        def __del__(self):
            nonlocal alive
            alive -= 1

    def read():
        nonlocal alive, most
        for number in range(1000):
            alive += 1
            most = max(most, alive)
            yield Text(f"return foo + {number}\n")

    tokens = pack(Documents(read, "many", tmp_path), tokenizer)
    assert tokenizer.decode(tokens.tolist()) == "".join(read())
    assert isinstance(tokens, np.memmap)  # and the tokens stay on disk
    alive = most = 0
    pack(Documents(read, "again", tmp_path), tokenizer)
    assert 64 <= most <= 130


def test_a_failed_file_leaves_nothing_behind(tmp_path):
    def broken(path):
        path.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        cached(tmp_path, "x", broken)
    assert not (tmp_path / "x").exists()


def test_stdlib_trains_and_tests_on_other_files(tmp_path):
    data = Stdlib(max_tokens=20_000, test_tokens=4096, eval_lengths=[64, 1024])
    data.cache_dir = tmp_path
    data.setup("fit")
    names = [set(files) for files in data.files.values()]
    assert not (names[0] & names[1] or names[0] & names[2] or names[1] & names[2])
    spec = MaskedLM(vocab_size=512)
    data.tokenizer = spec.train_tokenizer(data.texts())
    assert len(spec.train_tokenizer(data.texts())) == len(data.tokenizer)  # from the cache
    assert len(data.train_set) == 20_000 // 64
    batch = next(iter(data.train_dataloader()))
    assert batch["input_ids"].shape == batch["labels"].shape == (32, 64)
    assert ((batch["labels"] >= 0).sum(1) == 10).all()
    shapes = [next(iter(loader))["input_ids"].shape for loader in data.test_dataloader()]
    assert shapes == [(32, 64), (2, 1024)]
    assert data.calibration(1024, 2)["input_ids"].shape == (2, 1024)


def test_masks_change_with_the_epoch_and_with_nothing_else(tmp_path, tokenizer):
    file = tmp_path / "a.txt"
    file.write_text("return foo + bar\n" * 4000, encoding="utf-8")

    def batches(epoch, seed=0):
        data = prepared(
            Text(train=str(file), eval_lengths=[64], test_tokens=640, seed=seed),
            tokenizer,
            tmp_path,
        )
        loader = data.train_dataloader()
        loader.batch_sampler.set_epoch(epoch)
        return [batch["labels"] for batch in loader]

    first, again, other = batches(0), batches(0), batches(1)
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    assert not all(torch.equal(a, b) for a, b in zip(first, other))


def test_training_may_hide_another_share(tmp_path, tokenizer):
    file = tmp_path / "a.txt"
    file.write_text("return foo + bar\n" * 4000, encoding="utf-8")
    for rate, hidden in ((None, 10), (0.5, 32)):
        text = Text(train=str(file), eval_lengths=[64], test_tokens=640, train_mask_rate=rate)
        data = prepared(text, tokenizer, tmp_path)
        loaders = (data.train_dataloader(), data.val_dataloader(), *data.test_dataloader())
        counts = [
            (next(iter(loader))["labels"] >= 0).sum(1).unique().tolist() for loader in loaders
        ]
        assert counts == [[hidden], [10], [10]]
    with pytest.raises(ValueError, match=r"data\.train_mask_rate=1\.5"):
        Text(train=str(file), train_mask_rate=1.5)


def test_text_reads_files_folders_and_tables(tmp_path, tokenizer):
    folder = tmp_path / "texts"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("foo bar\n" * 3000, encoding="utf-8")
    (folder / "deep" / "b.md").write_text("baz qux\n" * 3000, encoding="utf-8")
    (folder / ".hidden").write_bytes(b"\xff")
    table = tmp_path / "rows.jsonl"
    table.write_text(
        "".join(json.dumps({"content": f"row {i} " * 40}) + "\n" for i in range(60)),
        encoding="utf-8",
    )
    data = Text(
        train=[str(folder), str(table)], field="content", eval_lengths=[64, 128], test_tokens=2048
    )
    data.setup("fit")
    text = {split: list(data.documents(split)) for split in ("train", "valid", "test")}
    whole = "".join("".join(part) for part in text.values())
    assert whole.count("foo bar\n") + whole.count("baz qux\n") == 6000
    assert whole.count("row 59 ") == 40
    assert text["test"] and text["valid"] and len(text["train"]) > len(text["test"])
    assert prepared(data, tokenizer, tmp_path).test_set is not None


def test_twenty_files_are_split_by_file(tmp_path):
    for number in range(40):
        (tmp_path / f"{number:02}.txt").write_text(f"{number} " * 20_000, encoding="utf-8")
    data = Text(train=str(tmp_path))
    data.setup("fit")
    owners = {}
    for split in ("train", "valid", "test"):
        for text in data.documents(split):
            owners.setdefault(text.split()[1], set()).add(split)
    assert all(len(splits) == 1 for splits in owners.values())
    assert sum("test" in splits for splits in owners.values()) == 2


def test_own_test_files_leave_the_training_text_whole(tmp_path):
    for name in ("train", "test"):
        (tmp_path / f"{name}.txt").write_text(f"{name} " * 50_000, encoding="utf-8")
    data = Text(train=str(tmp_path / "train.txt"), test=str(tmp_path / "test.txt"))
    data.setup("fit")
    counts = {s: "".join(data.documents(s)).split() for s in ("train", "valid", "test")}
    assert set(counts["test"]) == {"test"}
    assert len(counts["train"]) + len(counts["valid"]) >= 50_000
    assert set(counts["valid"]) <= {"train", "tr", "ain", "n", "t", "tra", "trai", "rain", "in"}


def test_strict_reading(tmp_path):
    bad = tmp_path / "bad.txt"
    bad.write_bytes("好".encode() + "好".encode("gbk"))
    with pytest.raises(DataError, match="not UTF-8 at byte 3"):
        list(pieces(bad))
    bad.write_bytes(b"a\0b")
    with pytest.raises(DataError, match="NUL"):
        list(pieces(bad))
    bad.write_bytes(b"")
    with pytest.raises(DataError, match="empty"):
        list(pieces(bad))
    with pytest.raises(DataError, match="no such file"):
        list(pieces(tmp_path / "none.txt"))
    good = tmp_path / "good.txt"
    text = "行\n" * 900_000  # characters of three bytes across the blocks
    good.write_text(text, encoding="utf-8")
    parts = list(pieces(good))
    assert "".join(parts) == text
    assert max(map(len, parts)) <= 16_384
    assert all(part.endswith("\n") for part in parts)


def test_too_little_text_is_named(tmp_path, tokenizer):
    file = tmp_path / "a.txt"
    file.write_text("foo bar\n" * 400, encoding="utf-8")
    with pytest.raises(ValueError, match=r"fewer than one row|no tokens"):
        prepared(Text(train=str(file)), tokenizer, tmp_path)


@pytest.mark.parametrize("lengths", [[64, 96], [64, 128, 192], [0, 64], []])
def test_lengths_that_do_not_nest(lengths):
    with pytest.raises(ValueError, match="eval_lengths"):
        check_lengths(lengths)


def test_faulty_settings():
    with pytest.raises(ValueError, match=r"mask_rate=1\.5"):
        Stdlib(mask_rate=1.5)
    with pytest.raises(ValueError, match="train_length=1"):
        Stdlib(train_length=1)
