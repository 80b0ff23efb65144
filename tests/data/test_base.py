"""Global batches: the same rows whatever the number of ranks, every row once in evaluation."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexue_pl.data.base import DataModule, GlobalBatches, global_batches
from tests.support.ranks import run_ranks
from tests.support.tiny import TinyData


@given(
    rows=st.integers(1, 200),
    size=st.integers(1, 64),
    seed=st.integers(0, 9),
    epoch=st.integers(0, 9),
)
def test_batches_are_full_and_hold_no_row_twice(
    rows: int, size: int, seed: int, epoch: int
) -> None:
    batches = global_batches(rows, size, seed=seed, epoch=epoch)
    flat = [row for batch in batches for row in batch]
    assert len(flat) == len(set(flat)) == rows // min(size, rows) * min(size, rows)
    assert {len(batch) for batch in batches} == {min(size, rows)}


def test_epochs_and_seeds_differ_and_are_repeated_exactly() -> None:
    draw = lambda seed, epoch: global_batches(64, 8, seed=seed, epoch=epoch)  # noqa: E731
    assert draw(0, 0) == draw(0, 0)
    assert draw(0, 0) != draw(0, 1)
    assert draw(0, 0) != draw(1, 0)


def loaders(rank: int, world: int) -> dict[str, Any]:
    data = TinyData(batch_size=16, rows=50, seed=3)
    data.setup("fit")
    train = [batch["row_id"].tolist() for batch in data.train_dataloader()]
    valid = [n for batch in data.val_dataloader() for n in batch["row_id"].tolist()]
    return {"train": train, "valid": valid}


def test_ranks_split_the_batches_of_one_process() -> None:
    whole = loaders(0, 1)
    ranks = run_ranks(loaders, 2)
    joined = [sorted(a + b) for a, b in zip(ranks[0]["train"], ranks[1]["train"])]
    assert joined == [sorted(batch) for batch in whole["train"]]
    assert (
        sorted(ranks[0]["valid"] + ranks[1]["valid"]) == list(range(33)) == sorted(whole["valid"])
    )


def test_a_resumed_sampler_begins_where_it_was_told() -> None:
    data = TinyData(batch_size=16, rows=50, seed=3)
    data.setup("fit")
    fresh = GlobalBatches(data)
    fresh.set_epoch(1)
    resumed = GlobalBatches(data, begin=(1, 2))
    assert list(resumed) == list(fresh)[2:]
    resumed.set_epoch(2)
    assert len(list(resumed)) == len(resumed) == 3


def odd_batch(rank: int, world: int) -> str:
    data = TinyData(batch_size=15)
    data.setup("fit")
    with pytest.raises(ValueError, match="multiple of the number of ranks") as error:
        data.train_dataloader()
    return str(error.value)


def test_a_batch_that_ranks_cannot_share_is_an_error() -> None:
    assert run_ranks(odd_batch, 2)[0].startswith("data.batch_size=15")


def test_no_rows_is_an_error() -> None:
    with pytest.raises(ValueError, match="no training rows"):
        DataModule(batch_size=4).train_dataloader()


def test_fingerprint_tells_changed_rows() -> None:
    one, same, other = (TinyData(seed=seed) for seed in (0, 0, 1))
    for data in (one, same, other):
        data.setup("fit")
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()
