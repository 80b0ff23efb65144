"""Overlapping digits: real pictures, disjoint splits, the controls."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kexue_pl.data.digits import Digits


def made(**settings: object) -> Digits:
    data = Digits(train_rows=500, valid_rows=50, test_rows=50, **settings)  # type: ignore[arg-type]
    data.setup("fit")
    return data


def test_rows_are_overlays_and_a_seed_gives_the_same() -> None:
    one, two, other = made(), made(), made(seed=1)
    assert one.train_set and two.train_set and other.train_set
    assert torch.equal(one.train_set[7]["x"], two.train_set[7]["x"])
    assert not torch.equal(one.train_set[7]["x"], other.train_set[7]["x"])
    image = one.train_set[0]["x"].view(12, 12)
    assert float(image.max()) <= 1 and float(image[:4, 8:].max()) == 0 == float(image[8:, :4].max())


def test_splits_share_no_source_image() -> None:
    from sklearn.datasets import load_digits

    images = load_digits(return_X_y=True)[0]
    order = np.random.default_rng(0).permutation(len(images))
    corners = {
        s: images[order[a:b]].reshape(-1, 8, 8)[:, :4, :4]
        for s, (a, b) in {"train": (0, 1000), "test": (1350, 1797)}.items()
    }
    pool = {c.tobytes() for c in (corners["test"] / 16).astype(np.float32)}
    rows = made().test_set
    assert rows and all(r["x"].view(12, 12)[:4, :4].numpy().tobytes() in pool for r in rows)


def test_noise_and_missing_change_only_the_second_training_label() -> None:
    plain, noisy, bare = made(), made(noise=1.0), made(missing=0.5)
    assert (
        plain.train_set and noisy.train_set and bare.train_set and plain.test_set and noisy.test_set
    )
    agree = [
        a["label_bottom_right"] == c["label_bottom_right"]
        for a, c in zip(plain.train_set, noisy.train_set)
    ]
    assert np.mean(agree) < 0.3
    assert all(
        a["label_top_left"] == c["label_top_left"] for a, c in zip(plain.train_set, noisy.train_set)
    )
    gone = np.mean([row["label_bottom_right"] == -1 for row in bare.train_set])
    assert 0.4 < gone < 0.6
    assert all(row["label_bottom_right"] >= 0 for row in noisy.test_set)


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ValueError, match=r"data\.noise=2"):
        Digits(noise=2)
    with pytest.raises(ValueError, match=r"data\.scales=\[1\]: expected 2"):
        Digits(scales=[1])
    with pytest.raises(ValueError, match="scale=0"):
        Digits(scales=[1, 0])
