"""Questions about the embedded world."""

from __future__ import annotations

import collections

from kexue_pl.data.base import Row
from kexue_pl.data.questions import QuestionData
from kexue_pl.data.world import Question, load_facts, questions


class WorldQuestions(QuestionData):
    """Questions by templates about the embedded facts; entities and wording of the test are new.

    The base is all facts. A subject that several kinds share gets its kind as its meaning.

    Args:
        per_fact: wordings of each training fact, at least 1.
        batch_size, eval_batch_size, num_workers, seed, max_question, max_length, swap, rename,
        noise, index: as in ``QuestionData``.
    """

    def __init__(
        self,
        *,
        per_fact: int = 2,
        batch_size: int = 32,
        eval_batch_size: int | None = 64,
        num_workers: int = 0,
        seed: int = 0,
        max_question: int = 72,
        max_length: int = 128,
        swap: float = 0.6,
        rename: float = 0.0,
        noise: float = 0.15,
        index: str | None = None,
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
        )
        self.per_fact = per_fact

    def setup(self, stage: str) -> None:
        """Make questions and base; cheap and the same on every rank."""
        if self.base:
            return
        facts = load_facts()
        kinds = collections.defaultdict(set)
        for fact in facts:
            kinds[fact.subject].add(fact.kind)
        self._shared = {subject for subject, found in kinds.items() if len(found) > 1}
        self.base = [(self._key(f.subject, f.predicate, f.kind), f.object) for f in facts]
        self.train_set = self._rows(
            questions(self.seed, "train", per_fact=self.per_fact), train=True
        )
        self.valid_set = self._rows(questions(self.seed, "valid"))
        self.test_set = self._rows(questions(self.seed, "test"))

    def _key(self, subject: str, predicate: str, kind: str) -> tuple[str, str, str]:
        return subject, predicate, kind if subject in self._shared else ""

    def _rows(self, found: list[Question], *, train: bool = False) -> list[Row]:
        return [
            {
                "question": q.question,
                "key": self._key(q.subject, q.predicate, q.kind),
                "value": q.object,
                "train": train,
            }
            for q in found
        ]
