"""What all data modules share: batches that depend on nothing but the seed, the epoch and the data.

Training batches are *global*: a list of row numbers that all ranks split between them, so a run on two
ranks sees the very batches of a run on one. The position inside an epoch is part of the checkpoint.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from kexue_pl.distributed import rank, world_size

__all__ = ["DataModule", "GlobalBatches", "RowSet", "global_batches"]

Row = dict[str, Any]
Key = tuple[int, int]


def global_batches(rows: int, batch_size: int, *, seed: int, epoch: int) -> list[list[int]]:
    """Batches of a shuffled epoch: a permutation drawn from (seed, epoch), cut into full batches.

    Rows that do not fill a last batch wait for another epoch, whose permutation differs. With fewer
    rows than `batch_size` the epoch is one batch of all rows.

    >>> [len(batch) for batch in global_batches(10, 4, seed=0, epoch=0)]
    [4, 4]
    """
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    order = torch.randperm(rows, generator=generator).tolist()
    size = min(batch_size, rows)
    return [order[start : start + size] for start in range(0, rows - size + 1, size)]


class RowSet(Dataset[Row]):
    """Rows addressed by (epoch, number); each row carries both, so that random augmentation can be
    seeded by them and faults can be named."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Key) -> Row:
        epoch, number = key
        return {"row_id": number, **self.rows[number], "epoch": epoch}


class GlobalBatches(Sampler[list[Key]]):
    """This rank's share of each global batch of an epoch, from the position where a run stopped.

    Rank r of W takes rows r, r + W, r + 2W, ... of a batch. A resumed run gives `begin`: the
    epoch and the batches of it that were trained; `len` stays whole, since the loop adds what it restored.
    """

    def __init__(self, data: DataModule, begin: tuple[int, int] | None = None) -> None:
        self.data, self.epoch = data, 0
        self.length = len(data.train_batches(0))
        # Loader workers fetch ahead before the loop names the epoch, so a resumed run begins with its own.
        self.begin = begin
        self.sampler = self  # where the loop looks for set_epoch

    def set_epoch(self, epoch: int) -> None:
        """Called by the loop before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, skip = self.begin or (self.epoch, 0)
        self.begin, self.epoch = None, epoch
        batches = self.data.train_batches(epoch)
        if len(batches) != self.length:
            raise ValueError(
                f"train_batches gave {len(batches)} batches in epoch {epoch} but {self.length} in "
                "epoch 0; every epoch must have as many"
            )
        for batch in batches[skip:]:
            yield [(epoch, number) for number in batch[rank() :: world_size()]]


class _EvalBatches(Sampler[list[Key]]):
    """Rank r of W evaluates rows r, r + W, ...: no row twice, none left out, none padded."""

    def __init__(self, rows: int, batch_size: int) -> None:
        self.numbers = range(rows)[rank() :: world_size()]
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.numbers) // self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        for start in range(0, len(self.numbers), self.batch_size):
            yield [(0, number) for number in self.numbers[start : start + self.batch_size]]


class DataModule(L.LightningDataModule):
    """Base of all data modules; a subclass fills the three sets in `setup` and writes `collate`.

    Args:
        batch_size: rows of one training batch over *all* ranks; a multiple of the number of ranks.
        eval_batch_size: rows of one evaluation batch on each rank; `batch_size` where not given.
        num_workers: loader processes for each rank.
        seed: of the order of rows and of everything that the data draws.
    """

    def __init__(
        self,
        *,
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"data.batch_size={batch_size}: must be at least 1")
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size or batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.tokenizer: Any = None
        self.train_set: Sequence[Row] | None = None
        self.valid_set: Sequence[Row] | None = None
        self.test_set: Sequence[Row] | None = None
        # What was left out, changed or found odd, by name; part of summary.json.
        self.counts: dict[str, int] = {}
        self._begin: tuple[int, int] | None = None
        self._batches: GlobalBatches | None = None
        self._fingerprinted: tuple[Any, str] | None = None

    def texts(self) -> Iterable[str] | None:
        """Training texts that a tokenizer may be trained on; None where no tokenizer is needed."""
        return None

    def collate(self, rows: list[Row]) -> dict[str, Any]:
        """Turn rows into a batch of tensors."""
        return dict(torch.utils.data.default_collate(rows))

    def train_batches(self, epoch: int) -> Sequence[list[int]]:
        """Global batches of one epoch as lists of row numbers; as many in every epoch."""
        return global_batches(self.rows(), self.batch_size, seed=self.seed, epoch=epoch)

    def rows(self) -> int:
        """Number of training rows."""
        if not self.train_set:
            raise ValueError("data: no training rows; give data.train")
        return len(self.train_set)

    def fingerprint(self) -> str:
        """SHA-256 over a sample of the training rows and their number: tells whether data changed."""
        rows = self.train_set or []
        step = max(1, len(rows) // 256)
        text = json.dumps([len(rows), [rows[i] for i in range(0, len(rows), step)]], default=_plain)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def train_dataloader(self) -> DataLoader[Row]:
        """Loader over this rank's share of the global batches."""
        size = min(self.batch_size, self.rows())
        if size % world_size():
            raise ValueError(
                f"data.batch_size={size} rows cannot be split over {world_size()} ranks; "
                "choose a multiple of the number of ranks"
            )
        sampler = self._batches = GlobalBatches(self, self._begin)
        self._begin = None
        return self._loader(self.train_set, sampler)

    def val_dataloader(self) -> Any:
        """Loader over this rank's share of the validation rows."""
        return self._eval_loader(self.valid_set)

    def test_dataloader(self) -> Any:
        """Loader over this rank's share of the test rows (the validation rows where there are none)."""
        return self._eval_loader(self.test_set or self.valid_set)

    def _eval_loader(self, rows: Sequence[Row] | None, batch_size: int | None = None) -> Any:
        if not rows:
            return []
        return self._loader(rows, _EvalBatches(len(rows), batch_size or self.eval_batch_size))

    def _loader(self, rows: Sequence[Row] | None, sampler: Sampler[list[Key]]) -> DataLoader[Row]:
        return DataLoader(
            RowSet(rows or []),
            batch_sampler=sampler,
            collate_fn=self.collate,
            num_workers=self.num_workers,
            # A private generator: the loader's base seed must not draw from the global one, or a run
            # resumed at the end of an epoch would be one draw off.
            generator=torch.Generator().manual_seed(self.seed),
        )

    def state_dict(self) -> dict[str, Any]:
        """Epoch and batch that a resumed run begins with, and what the data looked like."""
        assert self.trainer is not None
        # `processed`, not `ready`: a batch that was begun but not finished must be run again.
        progress: Any = self.trainer.fit_loop.epoch_loop.batch_progress.current
        done = progress.processed
        whole, skip = divmod(done, max(1, int(self.trainer.num_training_batches)))
        epoch = self._batches.epoch if self._batches else 0
        if self._fingerprinted is None or self._fingerprinted[0] is not self.train_set:
            # Once, not at every checkpoint.
            self._fingerprinted = self.train_set, self.fingerprint()
        return {"epoch": epoch + whole, "skip": skip, "fingerprint": self._fingerprinted[1]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue after the batches that were trained; other data than before is an error."""
        self._begin = (int(state_dict["epoch"]), int(state_dict["skip"]))
        if self.train_set and state_dict["fingerprint"] != self.fingerprint():
            raise ValueError(
                "resume: the training data changed since the checkpoint was written; "
                "put the old data back, or start anew with resume=never"
            )


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, Tensor) or hasattr(value, "tolist") else str(value)
