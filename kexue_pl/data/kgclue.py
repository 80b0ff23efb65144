"""Question files in the KgCLUE format, answered from one of several bases."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from kexue_pl.data.base import Row
from kexue_pl.data.distractors import MODES, Question, knowledge_base
from kexue_pl.data.kgclue_reader import parse_question, read_questions
from kexue_pl.data.questions import QuestionData, Record, existing
from kexue_pl.reading import RowPolicy
from kexue_pl.reading.errors import shown
from kexue_pl.retrieval.key_files import read_blocks
from kexue_pl.retrieval.meaning import split_subject

_LOG = logging.getLogger(__name__)

MODES_UNSEEN = tuple(f"{mode}_unseen" for mode in MODES[1:])


class KgCLUE(QuestionData):
    """KgCLUE questions (``S ||| P ||| O``) with a base of triples.

    Args:
        train, valid: question files with answers, JSON lines.
        test: with answers; None tests on ``valid``.
        triples: the real base as TSV, JSONL or Parquet; None makes one around the question files.
        base: how that one is made: ``qa``, ``rich``, ``hard`` (see ``knowledge_base``),
            ``rich_unseen`` and ``hard_unseen`` draw the distractors of evaluated names from their
            own predicates, none of which training shows.
        valid_rows: evaluate at most so many validation questions an epoch; None for all.
        limit: at most so many training questions, for learning curves; None for all.
        held_out: share of the training predicates whose questions are not trained on: they tune
            the weights of the parts of an answer, since predicates of a test are new.
        tune_rows: at most so many of those questions are looked at.
        resplit: mix train and valid and split again, so that predicates of valid occur in train.
        batch_size, eval_batch_size, num_workers, seed, max_question, max_length, swap, rename,
        noise, index, strict: as in ``QuestionData``.
        on_error, max_bad, bad_rows: bad rows, as in ``Files``.

    Raises:
        ValueError: an unknown base, or a missing file.
    """

    def __init__(
        self,
        *,
        train: str,
        valid: str,
        test: str | None = None,
        triples: str | None = None,
        base: str = "rich",
        valid_rows: int | None = 300,
        limit: int | None = None,
        held_out: float = 0.1,
        tune_rows: int = 1200,
        resplit: bool = False,
        batch_size: int = 32,
        eval_batch_size: int | None = 64,
        num_workers: int = 0,
        seed: int = 0,
        max_question: int = 72,
        max_length: int = 128,
        swap: float = 0.5,
        rename: float = 0.0,
        noise: float = 0.0,
        index: str | None = None,
        strict: bool = False,
        on_error: str = "raise",
        max_bad: int = 100,
        bad_rows: str | None = None,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            seed=seed,
            max_question=max_question,
            max_length=max_length,
            swap=swap,
            rename=rename,
            noise=noise,
            index=index,
            strict=strict,
        )
        if base not in (*MODES, *MODES_UNSEEN):
            accepted = ", ".join((*MODES, *MODES_UNSEEN))
            raise ValueError(f"data.base={base!r}: accepted are {accepted}")
        if not 0 <= held_out < 1:
            raise ValueError(f"data.held_out={held_out}: a share from 0 to below 1")
        self.held_out, self.tune_rows = held_out, tune_rows
        self.files = {"train": train, "valid": valid, "test": test}
        self.triples, self.mode = triples, base
        self.policy = RowPolicy(on_error, max_bad, None if bad_rows is None else Path(bad_rows))
        self.valid_rows, self.limit, self.resplit = valid_rows, limit, resplit

    def setup(self, stage: str) -> None:
        """Read the files and make the base, the same on every rank."""
        if self.base:
            return
        parts = {
            name: [
                parse_question(row)
                for row in read_questions(existing(path, f"data.{name}"), policy=self.policy)
            ]
            for name, path in self.files.items()
            if path is not None
        }
        test = parts.get("test", parts["valid"])
        if self.resplit:
            parts["train"], parts["valid"], test = self._mixed(parts["train"], parts["valid"])
        kept, tune = self._without_some_predicates(parts["train"])
        held = [*parts["valid"], *parts.get("test", [])]
        self.base = self._base(parts["train"], [kept, tune, held])
        self.train_set = self._rows(kept[: self.limit], train=True)
        self.tune_set = self._rows(tune[: self.tune_rows])
        self.valid_set = self._rows(parts["valid"][: self.valid_rows])
        self.test_set = self._rows(test)
        self.counts["bad_rows"] = len(self.policy.bad)
        if self.triples is not None and self.index is None:
            self._unreachable()

    def _unreachable(self) -> None:
        """Count evaluated questions whose triple is not in the base: they have no right answer."""
        keys = {key for key, _ in self.base}
        for name, rows in (("valid", self.valid_set), ("test", self.test_set)):
            lost = [row["key"] for row in rows or [] if row["key"] not in keys]
            if lost:
                self.counts[f"{name}_answers_unknown"] = len(lost)
                _LOG.warning(
                    "data.%s: the answers of %d of %d questions are not in data.triples, the first "
                    "is %s: no answer to them can be right",
                    name, len(lost), len(rows or []), shown(lost[0]),
                )  # fmt: skip

    def _mixed(self, train: list[Question], valid: list[Question]) -> tuple[Any, Any, Any]:
        import random

        rows = [*train, *valid]
        random.Random(f"{self.seed}/resplit").shuffle(rows)
        held = rows[len(train) :]
        return rows[: len(train)], held, held

    def _without_some_predicates(
        self, train: list[Question]
    ) -> tuple[list[Question], list[Question]]:
        """The questions to train on, and those of the predicates held out, each in file order."""
        import random

        predicates = sorted({q.predicate for q in train})
        count = int(self.held_out * len(predicates))
        drawn = random.Random(f"{self.seed}/held out").sample(predicates, count)
        out = set(drawn)
        return [q for q in train if q.predicate not in out], [
            q for q in train if q.predicate in out
        ]

    def _base(self, train: list[Question], parts: list[list[Question]]) -> list[Record]:
        if self.index is not None:
            return [((s, p, m), o) for s, p, m, o in knowledge_base(train, "qa", seed=self.seed)]
        if self.triples is not None:
            return list(self._read_triples())
        if self.mode in MODES:
            triples = knowledge_base([*train, *parts[-1]], self.mode, seed=self.seed)
        else:
            triples = self._unseen(parts)
        return [((s, p, m), o) for s, p, m, o in triples]

    def _unseen(self, parts: list[list[Question]]) -> list[Any]:
        """Each part's names have predicates of that part alone; a later part owns a shared name."""
        mode = self.mode.removesuffix("_unseen")
        triples: list[Any] = []
        for part in reversed([p for p in parts if p]):
            names = {t[0] for t in triples}
            own = knowledge_base(part, mode, seed=self.seed)
            triples += [t for t in own if t[0] not in names]
        return triples

    def _read_triples(self) -> Any:
        path = existing(self.triples, "data.triples")
        for block in read_blocks(path, ("subject", "predicate", "object"), policy=self.policy):
            for subject, predicate, value in zip(*(c.to_pylist() for c in block), strict=True):
                name, meaning = split_subject(subject)
                yield (name, predicate, meaning), value

    def _rows(self, found: list[Question], *, train: bool = False) -> list[Row]:
        return [
            {
                "question": q.question,
                "key": (q.subject, q.predicate, q.meaning),
                "value": q.object,
                "train": train,
            }
            for q in found
        ]
