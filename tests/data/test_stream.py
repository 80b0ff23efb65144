"""Pairs on disk: the rows of memory, an exact shuffle, any number of ranks, a resume in mid-epoch."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kexue_pl.data.base import GlobalBatches
from kexue_pl.data.files import Files
from kexue_pl.data.pair_store import PairStore
from kexue_pl.data.shuffle import Permutation, ShuffledBatches
from kexue_pl.data.stream import Stream
from kexue_pl.models import Small, Static
from kexue_pl.models.tokenizers import train_tokenizer
from kexue_pl.reading import DataError, Field, iter_table
from tests.support.cli import train
from tests.support.ranks import run_ranks
from tests.support.runs import weights_digest

ROWS = [(f"甲{i}", f"乙{'丙' * (i % 7)}", i % 3 == 0) for i in range(300)]


def write(folder: Path, ending: str, rows: list[Any] = ROWS) -> str:
    path = folder / f"train.{ending}"
    objects = [{"text1": a, "text2": b, "label": int(c)} for a, b, c in rows]
    if ending == "parquet":
        parquet.write_table(pa.Table.from_pylist(objects), path)
    elif ending == "jsonl":
        path.write_text("\n".join(json.dumps(o, ensure_ascii=False) for o in objects), "utf-8")
    else:
        mark = "\t" if ending == "tsv" else ","
        path.write_text("".join(f"{a}{mark}{b}{mark}{int(c)}\n" for a, b, c in rows), "utf-8")
    return str(path)


def valid(folder: Path) -> str:
    path = folder / "valid.tsv"
    path.write_text("x\ty\t1\nz\tw\t0\n甲3\t乙丙丙丙\t1\n", "utf-8")
    return str(path)


def ready(data: Any, folder: Path, *, joined: bool = False) -> Any:
    data.cache_dir = folder / "cache"
    data.setup("fit")
    data.tokenizer = train_tokenizer(["甲乙丙0123456789xyzw"], min_frequency=1)
    encoder = Small(hidden_size=8, heads=2, layers=1, max_length=8).build(data.tokenizer)
    data.use(encoder, joined=joined)
    return data


@given(rows=st.integers(1, 3000), seed=st.integers(0, 99), epoch=st.integers(0, 9))
def test_the_order_is_a_permutation(rows: int, seed: int, epoch: int) -> None:
    order = Permutation(rows, seed=seed, epoch=epoch)
    whole = order(np.arange(rows))
    assert np.array_equal(np.sort(whole), np.arange(rows))
    part = np.arange(rows // 3, rows // 2)
    assert np.array_equal(order(part), whole[part])


def test_the_order_is_mixed_and_changes_with_seed_and_epoch() -> None:
    n = 20_000
    orders = [Permutation(n, seed=s, epoch=e)(np.arange(n)) for s, e in ((0, 0), (0, 1), (1, 0))]
    orders.append(np.random.default_rng(0).permutation(n))  # what a fair shuffle gives
    for order in orders:
        assert abs(np.corrcoef(order, np.arange(n))[0, 1]) < 0.03
        assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 0.03
        assert (order == np.arange(n)).sum() < 10
        counts = np.bincount(order[: n // 2] * 20 // n, minlength=20)
        assert ((counts - n / 40) ** 2 / (n / 80)).sum() < 50  # about chi-squared with 19 degrees
    assert all((a != b).mean() > 0.99 for a in orders for b in orders if a is not b)
    assert abs(np.corrcoef(np.arange(n), np.arange(n) // 2 * 2)[0, 1]) > 0.03  # a control


def test_a_billion_rows_take_no_memory() -> None:
    tracemalloc.start()
    batches = ShuffledBatches(10**9, 1024, seed=0, epoch=3)
    seen = [batches[number] for number in (0, 1, len(batches) - 1)]
    assert len({row for batch in seen for row in batch}) == 3 * 1024
    assert len(batches[500_000:]) == len(batches) - 500_000
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize("ending", ["tsv", "csv", "jsonl", "parquet"])
@pytest.mark.parametrize("joined", [False, True])
def test_rows_on_disk_equal_rows_in_memory(tmp_path: Path, ending: str, joined: bool) -> None:
    path, held = write(tmp_path, ending), valid(tmp_path)
    whole = ready(Files(train=path, valid=held, stratify=False), tmp_path, joined=joined)
    data = ready(Stream(train=path, valid=held), tmp_path, joined=joined)
    assert isinstance(data.train_set, PairStore)
    assert len(data.train_set) == len(whole.train_set) == 299
    for row in range(299):
        mine, theirs = data.train_set[row], whole.train_set[row]
        assert mine.keys() == theirs.keys()
        assert all(np.array_equal(mine[name], theirs[name]) for name in mine)
        assert data.train_set.where(row) == whole.tables["train"].where(row)
    batch = [data.collate([d.train_set[i] for i in range(9)]) for d in (data, whole)]
    assert all(torch.equal(batch[0][name], batch[1][name]) for name in batch[1])
    assert data.counts["train_rows_also_evaluated"] == 1
    assert data.counts["train_texts_cut"] == whole.counts["train_texts_cut"] > 0


def test_it_is_made_once_and_anew_for_other_settings(tmp_path: Path) -> None:
    path, held = write(tmp_path, "tsv"), valid(tmp_path)
    ready(Stream(train=path, valid=held), tmp_path)
    (store,) = (tmp_path / "cache").glob("pairs-*/facts.json")
    stamp = store.stat().st_mtime_ns
    again = ready(Stream(train=path, valid=held), tmp_path)
    assert store.stat().st_mtime_ns == stamp and again.counts["train_texts_cut"] > 0
    ready(Stream(train=path, valid=held, drop_leaked=False), tmp_path)
    Path(path).write_text("甲\t乙\t1\n" * 3, "utf-8")
    ready(Stream(train=path, valid=held), tmp_path)
    assert len(list((tmp_path / "cache").glob("pairs-*/facts.json"))) == 3
    assert not list((tmp_path / "cache").glob(".*"))


def test_bad_rows_and_strict(tmp_path: Path) -> None:
    path = tmp_path / "train.tsv"
    path.write_text("甲\t乙\t1\n甲\n丙\t丁\t0\n丙\t丁丁丁丁丁丁丁丁丁\t0\n", "utf-8")
    held = valid(tmp_path)
    with pytest.raises(DataError, match=r"train.tsv:2: too few fields"):
        ready(Stream(train=str(path), valid=held), tmp_path)
    assert not list((tmp_path / "cache").glob("*/facts.json"))
    data = ready(Stream(train=str(path), valid=held, on_error="skip"), tmp_path)
    assert len(data.train_set) == 3
    assert data.counts["bad_rows"] == data.counts["train_texts_cut"] == 1
    with pytest.raises(DataError, match=r"train.tsv:4: a text of more than 8 tokens"):
        ready(Stream(train=str(path), valid=held, on_error="skip", strict=True), tmp_path)
    path.write_text('{"text1": "a", "text2": "b"}\n', "utf-8")
    path = path.rename(tmp_path / "train.jsonl")
    with pytest.raises(
        DataError, match=r"train.jsonl: data.train has no labels|:1: data.train has"
    ):
        ready(Stream(train=str(path), valid=held), tmp_path)


def test_a_column_that_shows_late_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n' * 5 + '{"text": "a", "label": 1}\n', "utf-8")
    fields = {"text": Field(), "label": Field("label", required=False)}
    with pytest.raises(DataError, match=r"'label' shows first in row 6"):
        list(iter_table(path, fields, peek=3))


@pytest.mark.parametrize("ending", ["tsv", "csv", "jsonl", "parquet"])
def test_reading_takes_bounded_memory(tmp_path: Path, ending: str) -> None:
    rows = [("甲" * 40 + str(i), "乙" * 40, i % 2 == 0) for i in range(40_000)]
    path = write(tmp_path, ending, rows)
    fields = {"text1": Field(), "text2": Field(), "label": Field("label")}
    tracemalloc.start()
    assert sum(1 for _ in iter_table(path, fields)) == len(rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20  # the rows alone take more than 13 MB in memory


def loader(rank: int, world: int, folder: str) -> list[list[int]]:
    data = Stream(train=f"{folder}/train.tsv", valid=f"{folder}/valid.tsv", batch_size=16)
    data = ready(data, Path(folder))
    return [batch["row_id"].tolist() for batch in data.train_dataloader()]


@pytest.mark.slow
def test_ranks_split_the_batches_of_one(tmp_path: Path) -> None:
    write(tmp_path, "tsv")
    valid(tmp_path)
    whole = loader(0, 1, str(tmp_path))
    first, second = run_ranks(loader, 2, str(tmp_path))
    assert [sorted(a + b) for a, b in zip(first, second)] == [sorted(batch) for batch in whole]


def test_a_resumed_epoch_goes_on_at_its_place(tmp_path: Path) -> None:
    data = ready(Stream(train=write(tmp_path, "tsv"), valid=valid(tmp_path)), tmp_path)
    fresh = GlobalBatches(data)
    fresh.set_epoch(1)
    assert list(GlobalBatches(data, begin=(1, 2))) == list(fresh)[2:]


def test_spec_static_trains(tmp_path: Path) -> None:
    data = ready(Stream(train=write(tmp_path, "tsv"), valid=valid(tmp_path)), tmp_path)
    encoder = Static(hidden_size=4).build(data.tokenizer)
    data.use(encoder, joined=False)
    assert {"left_ids", "right_mask", "label", "row_id"} <= next(
        iter(data.train_dataloader())
    ).keys()


@pytest.mark.slow
def test_a_run_that_was_cut_ends_bitwise_equal(tmp_path: Path) -> None:
    rows = [(f"甲{i}", f"乙{i % 9}", i % 2 == 0) for i in range(160)]
    path, held = write(tmp_path, "tsv", rows), valid(tmp_path)
    words = ["task=matching", "data=stream", f"data.train={path}", f"data.valid={held}",
             "model=small", "model.hidden_size=16", "model.layers=1", "model.heads=2",
             "data.batch_size=16", "scheduler=constant", "trainer.max_epochs=2", "test=false",
             f"paths.cache={tmp_path}/cache", "callbacks.last.every_n_train_steps=1"]  # fmt: skip
    for name, extra in (("whole", []), ("cut", ["trainer.max_steps=7"])):
        done = train(*words, *extra, f"paths.output_dir={tmp_path}/{name}", cwd=tmp_path)
        assert done.code == 0, done.err
    done = train(*words, "resume=auto", f"paths.output_dir={tmp_path}/cut", cwd=tmp_path)
    assert done.code == 0 and "starting anew" not in done.err, done.err
    digests = [weights_digest(tmp_path / n / "checkpoints" / "last.ckpt") for n in ("whole", "cut")]
    assert digests[0] == digests[1]
    summary = json.loads((tmp_path / "cut" / "summary.json").read_text())
    assert summary["status"] == "completed" and "data" in summary
