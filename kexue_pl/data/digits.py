"""Two overlapping handwritten digits in one image: two tasks on real pictures, nothing to download."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from kexue_pl.data.base import DataModule
from kexue_pl.data.subtasks import MISSING, Subtask, label_key, one_each

__all__ = ["Digits"]

NAMES = ("top_left", "bottom_right")
_SPLITS = {"train": (0, 1000), "valid": (1000, 1350), "test": (1350, 1797)}


class Digits(DataModule):
    """Two 8x8 digits of scikit-learn's `load_digits` laid over each other on 12x12 pixels.

    Both tasks name one digit of ten; they compete for one trunk. The splits use disjoint source
    images. The second task can be scaled, shifted, given random labels or robbed of labels, which is
    what tells balancing rules apart (articles 8870, 8896, 8907).

    Args:
        train_rows, valid_rows, test_rows: overlays to draw.
        scales: factor of each task's loss, two positive numbers.
        shifts: what is added to each task's loss.
        noise: share of the second task's training labels that are random, 0 to 1.
        missing: share of the second task's training labels that are taken away, 0 to 1.
        batch_size, eval_batch_size, num_workers, seed: see :class:`DataModule`.

    Raises:
        ValueError: a share outside 0 to 1, or another number of scales or shifts than two.
    """

    def __init__(
        self,
        *,
        batch_size: int = 64,
        eval_batch_size: int | None = 512,
        num_workers: int = 0,
        seed: int = 0,
        train_rows: int = 3000,
        valid_rows: int = 1000,
        test_rows: int = 2000,
        scales: Sequence[float] | None = None,
        shifts: Sequence[float] | None = None,
        noise: float = 0.0,
        missing: float = 0.0,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            seed=seed,
        )
        for key, share in (("noise", noise), ("missing", missing)):
            if not 0 <= share <= 1:
                raise ValueError(f"data.{key}={share}: expected a share from 0 to 1")
        self.sizes = {"train": train_rows, "valid": valid_rows, "test": test_rows}
        self.noise, self.missing = noise, missing
        scale, shift = (
            one_each(v, 2, fill, f"data.{key}")
            for v, fill, key in ((scales, 1.0, "scales"), (shifts, 0.0, "shifts"))
        )
        self.subtasks = [
            Subtask(name, "classes", classes=10, scale=scale[i], shift=shift[i])
            for i, name in enumerate(NAMES)
        ]
        self.features = 144

    def setup(self, stage: str) -> None:
        """Draw the overlays of the three splits."""
        if self.train_set is None:
            rng = np.random.default_rng(self.seed)
            sets = [self._rows(split, rng) for split in _SPLITS]
            self.train_set, self.valid_set, self.test_set = sets

    def _rows(self, split: str, rng: np.random.Generator) -> list[dict[str, Any]]:
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        images = (images.reshape(-1, 8, 8) / 16).astype(np.float32)
        order = np.random.default_rng(self.seed).permutation(len(images))
        pool = order[slice(*_SPLITS[split])]
        size = self.sizes[split]
        first, second = rng.choice(pool, size), rng.choice(pool, size)
        canvas = np.zeros((size, 12, 12), np.float32)
        canvas[:, :8, :8] = images[first]
        canvas[:, 4:, 4:] = np.maximum(canvas[:, 4:, 4:], images[second])
        two = labels[second]
        if split == "train":
            two = np.where(rng.random(size) < self.noise, rng.integers(0, 10, size), two)
            two = np.where(rng.random(size) < self.missing, MISSING, two)
        pixels = torch.from_numpy(canvas.reshape(size, -1))
        one_key, two_key = map(label_key, NAMES)
        return [
            {"x": pixels[i], one_key: int(labels[first[i]]), two_key: int(two[i])}
            for i in range(size)
        ]
