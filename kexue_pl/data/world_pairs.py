"""The embedded pairs: questions about the small world of facts."""

from __future__ import annotations

from kexue_pl.data.pair_data import PairData
from kexue_pl.data.world import SPLITS, pairs
from kexue_pl.reading import Table

__all__ = ["WorldPairs"]


class WorldPairs(PairData):
    """Pairs of questions made from facts, so that everything runs without a download.

    Args:
        labels: ``binary`` (the same question or not) or ``graded`` (0, 1, 2, 3, 5).
        train: number of training pairs.
        valid: number of validation pairs.
        test: number of test pairs.
        world_seed: of the generated pairs; fixed, so that runs of different ``seed`` compare.
        batch_size: see :class:`PairData`, like all that follow.
        eval_batch_size: pairs of one evaluation batch.
        num_workers: loader processes.
        seed: of the order of the pairs.
        bucket: pairs of like length share a batch.
        stratify: several label values in each batch.
        drop_leaked: leave out training rows that are also evaluated.
    """

    def __init__(
        self,
        *,
        labels: str = "binary",
        train: int = 8000,
        valid: int = 1000,
        test: int = 2000,
        world_seed: int = 0,
        batch_size: int = 64,
        eval_batch_size: int | None = 256,
        num_workers: int = 0,
        seed: int = 0,
        bucket: bool = False,
        stratify: bool = True,
        drop_leaked: bool = True,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            seed=seed,
            bucket=bucket,
            stratify=stratify,
            drop_leaked=drop_leaked,
        )
        if labels not in ("binary", "graded"):
            raise ValueError(f"data.labels={labels!r}: expected binary or graded")
        self.labels, self.world_seed = labels, world_seed
        self.counts = {"train": train, "valid": valid, "test": test}

    def setup(self, stage: str | None = None) -> None:
        """Generate the pairs; the same settings give the same pairs on any machine."""
        if self.tables:
            return
        for split in SPLITS:
            rows = pairs(self.world_seed, split, count=self.counts[split])
            labels = [row.label if self.labels == "binary" else row.grade for row in rows]
            columns = {"text1": [r.text1 for r in rows], "text2": [r.text2 for r in rows]}
            places = [(f"world/{split}", number) for number in range(1, len(rows) + 1)]
            self.tables[split] = Table({**columns, "label": labels}, places)
        self.inspect()
