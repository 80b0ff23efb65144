"""Batches from sources of different size."""

from __future__ import annotations

from collections import Counter

import pytest

from kexue_pl.data.mixture import SAMPLINGS, mixed_batches, shares

SIZES = [300, 60, 24]


def owner(row: int) -> int:
    return 0 if row < 300 else 1 if row < 360 else 2


def epoch_of(sampling: str, epoch: int = 0, seed: int = 0) -> list[list[int]]:
    return mixed_batches(SIZES, 12, sampling=sampling, seed=seed, epoch=epoch)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_every_epoch_has_as_many_full_batches_and_depends_on_seed_and_epoch_alone(
    sampling: str,
) -> None:
    first, second = epoch_of(sampling), epoch_of(sampling, 1)
    assert len(first) == len(second) and all(len(b) == 12 for b in first + second)
    assert first == epoch_of(sampling) != second
    assert first != epoch_of(sampling, seed=1)


@pytest.mark.parametrize("sampling", [s for s in SAMPLINGS if s != "joint"])
def test_a_batch_comes_from_one_source(sampling: str) -> None:
    batches = epoch_of(sampling)
    assert all(len({owner(row) for row in batch}) == 1 for batch in batches)
    counts = Counter(owner(batch[0]) for batch in batches)
    if sampling == "round_robin":
        assert [owner(b[0]) for b in batches[:6]] == [0, 1, 2, 0, 1, 2]
        assert len(set(counts.values())) == 1
    if sampling == "proportional":
        assert counts == {0: 25, 1: 5, 2: 2}
    if sampling == "temperature":
        assert counts[2] > 2 and counts[0] < 25 and counts[0] > counts[1] > counts[2]


def test_a_joint_batch_holds_as_many_rows_of_each_source() -> None:
    for batch in epoch_of("joint"):
        assert Counter(map(owner, batch)) == {0: 4, 1: 4, 2: 4}


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_sources_are_read_in_whole_passes_over_epochs(sampling: str) -> None:
    """A small source is repeated evenly; nothing of a large one is left out for good."""
    seen = Counter(row for e in range(40) for batch in epoch_of(sampling, e) for row in batch)
    for source, size in enumerate(SIZES):
        mine = [n for row, n in seen.items() if owner(row) == source]
        assert len(mine) == size
        assert max(mine) - min(mine) <= 1


def test_shares_are_the_largest_remainders_and_never_zero() -> None:
    assert shares([1000, 1, 1], 10, "proportional", 1.0) == [9, 1, 1]
    assert shares([100, 100, 100], 10, "temperature", 5.0) == [4, 3, 3]
    assert shares([10000, 100], 101, "temperature", 1.0) == [100, 1]
    assert shares([10000, 100], 110, "temperature", 2.0) == [100, 10]


def test_misuse_is_named() -> None:
    with pytest.raises(ValueError, match=r"data\.sampling='x'"):
        mixed_batches([4], 2, sampling="x", seed=0, epoch=0)
    with pytest.raises(ValueError, match=r"data\.temperature=0"):
        mixed_batches([4], 2, sampling="temperature", temperature=0, seed=0, epoch=0)
    with pytest.raises(ValueError, match=r"data\.source_rows"):
        mixed_batches([4, 0], 2, sampling="joint", seed=0, epoch=0)
