"""Data that is tested at several lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from kexue_pl.data.base import DataModule

__all__ = ["LengthsData", "check_lengths"]


def check_lengths(lengths: Sequence[int]) -> list[int]:
    """Sorted lengths of which each divides the longest and is a multiple of the shortest.

    Raises:
        ValueError: naming the lengths at fault.

    >>> check_lengths([256, 64])
    [64, 256]
    """
    ordered = sorted({int(length) for length in lengths})
    wrong = [n for n in ordered if n < 1 or ordered[-1] % n or n % max(1, ordered[0])]
    if not ordered or wrong:
        raise ValueError(
            f"data.eval_lengths={list(lengths)}: {wrong or 'none given'}; each must divide the "
            "longest and be a multiple of the shortest, as in [64,128,256,512,1024]"
        )
    return ordered


class LengthsData(DataModule):
    """Base of data that trains at one length and is tested at several, one loader a length.

    Args:
        train_length: tokens of a training row.
        eval_lengths: tokens of the rows of the test.
        batch_size: rows of a training batch; batches of the test hold as many tokens as one of
            training, but at least one row.
        num_workers: loader processes.
        seed: of rows and their order.
    """

    segments: int = 0
    """Number of segment ids (``token_type_ids``) of the rows; 0 where they have none."""

    proportions: ClassVar[Mapping[str, Any]] = {
        "hidden_size": 128, "layers": 3, "heads": 4, "positions": "rope"
    }  # fmt: skip
    """Sizes that suit this data, for models that leave theirs open."""

    def __init__(
        self,
        *,
        train_length: int,
        eval_lengths: Sequence[int],
        batch_size: int,
        num_workers: int,
        seed: int,
    ) -> None:
        if train_length < 2:
            raise ValueError(f"data.train_length={train_length}: must be at least 2")
        self.cache_dir: Path | None = None
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        self.train_length = train_length
        self.eval_lengths = list(eval_lengths)

    def length_set(self, length: int) -> Sequence[dict[str, Any]]:
        """Test rows of a length."""
        raise NotImplementedError

    def calibration(self, length: int, rows: int) -> dict[str, Tensor]:
        """Model inputs of a length that are not part of the test."""
        raise NotImplementedError

    def test_dataloader(self) -> Any:
        """One loader for each of ``eval_lengths``, in that order."""
        tokens = self.batch_size * self.train_length
        return [
            self._eval_loader(self.length_set(n), max(1, tokens // n)) for n in self.eval_lengths
        ]
