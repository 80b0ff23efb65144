"""Retrieval as constrained generation: questions to keys of a base (kexue.fm/archives/8802)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kexue_pl.data.questions import QuestionData
from kexue_pl.distributed import all_gather_objects, all_reduce_sum, world_size
from kexue_pl.models.key_model import KeyModel
from kexue_pl.retrieval import PrefixIndex, SegmentScorer, train_segment_scorer
from kexue_pl.retrieval.choices import Choices
from kexue_pl.retrieval.kernels import wanted
from kexue_pl.retrieval.official import Answer, official_scores
from kexue_pl.tasks.base import BaseTask, Penalty
from kexue_pl.tasks.kgclue_answers import Answerer, Found, Settings

Fault = dict[str, Any]


class KgclueTask(BaseTask):
    """Train a UniLM to write ``S [SEP] P [SEP] M [SEP]`` and answer with keys of the base.

    Validation decodes. The test answers every question by the main method (``combined``, or
    ``seq2seq`` without lexical scores) and prints beside it the model alone, the lexical scores
    alone, the rule without a model and unconstrained decoding; all figures are in percent,
    ``test/score`` is the official one.

    Args:
        data: questions and base, with its tokenizer.
        model: specification of the model.
        optimizer, scheduler, penalty: as in ``BaseTask``.
        attention: a scaling of ``kexue_pl.attention``.
        beams: live beams a question.
        renormalise: normalise over the allowed tokens at every step.
        lookahead: weight children by what the keys below them share with the question.
        skip_forced: finish a beam when one key is left below it.
        lexical: weight of the lexical scores; 0 answers with the model alone.
        seq2seq: weight of the model's log p of a predicate beside the lexical scores.
        prior: weight of the model's log prior of a predicate, which is subtracted.
        names_kept: names of a question whose predicates are scored.
        tune: learn the weights above that are not 0 on the questions that the data hold out for it,
            if any: their predicates are new to the model, as those of a test are.
        constrained: weight of a second loss, over the tokens that the base allows; 0 for the
            article's loss alone.
        compiled: step beams by compiled loops (extra ``fast``); "auto" does where it pays: numba
            is installed and the base has a million rows or more.
        lexical_steps: training steps of the lexical scores, 64 questions each.
        baselines: answer the test by all methods; False by the main one alone.
    """

    monitor: ClassVar[str] = "val/score"
    monitor_mode: ClassVar[str] = "max"

    def __init__(
        self,
        *,
        data: QuestionData,
        model: Any,
        optimizer: Callable[[Iterable[Any]], Optimizer],
        scheduler: Callable[..., LRScheduler] | None = None,
        penalty: Penalty | None = None,
        attention: Any = None,
        beams: int = 3,
        renormalise: bool = True,
        lookahead: bool = True,
        skip_forced: bool = True,
        lexical: float = 1.0,
        seq2seq: float = 0.6,
        prior: float = 1.0,
        names_kept: int = 2,
        tune: bool = True,
        constrained: float = 0.0,
        compiled: bool | str = "auto",
        lexical_steps: int = 600,
        baselines: bool = True,
    ) -> None:
        super().__init__(optimizer=optimizer, scheduler=scheduler, penalty=penalty)
        if beams < 1:
            raise ValueError(f"task.beams={beams}: must be at least 1")
        if constrained < 0:
            raise ValueError(f"task.constrained={constrained}: a weight of 0 or more")
        self.data, self.constrained = data, constrained
        self.settings = Settings(
            beams, renormalise, lookahead, skip_forced, lexical, seq2seq, prior, names_kept, tune
        )
        self.lexical_steps, self.baselines = lexical_steps, baselines
        wanted(compiled, 0)  # refuses a wrong choice now, not at the first question
        self.compiled = compiled
        self.model: KeyModel = model.build(data.tokenizer, attention=attention)
        self._index: PrefixIndex | None = None
        self._scorer: SegmentScorer | None = None
        self._restored: dict[str, Tensor] | None = None
        self._answerer: Answerer | None = None
        self.found: dict[str, dict[int, list[Found]]] = {}
        self.faults: list[Fault] = []
        self.scores: dict[str, dict[str, float]] = {}

    @property
    def index(self) -> PrefixIndex:
        """The base, indexed on first use."""
        if self._index is None:
            self._index = self.data.make_index()
            if wanted(self.compiled, len(self._index)):
                self._index.compile()
        return self._index

    def embeddings(self) -> nn.Module:
        """The word embeddings, which are also the output's."""
        return self.model.embeddings

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Mean negative log-probability of a token of the key, over the tokens of all ranks.

        With ``constrained`` w and C(t) the tokens that the base allows in the place of t, among
        what training asks for (``Choices``):

            - log p(t) - w log (p(t) / sum of p over C(t))
        """
        inputs = batch["input_ids"], batch["segment"], batch["attention_mask"]
        if "choices" in batch:
            log_p, allowed = self.model.choice_log_p(*inputs, batch["choices"])
            chosen = torch.where(batch["choices"][..., 0] >= 0, log_p - allowed, 0.0)
            total = log_p.sum() + self.constrained * chosen.sum()
        else:
            total = self.model.target_log_p(*inputs).sum()
        count = batch["segment"].sum().to(total.dtype)
        # Ranks hold keys of unequal length; gradients are averaged over ranks afterwards.
        return -total * world_size() / all_reduce_sum(count)

    # --- the lexical scores ----------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Learn the lexical scores, in seconds, and gather the choices; the same on every rank."""
        if self.constrained and self.data.choices is None:
            self.data.choices = Choices(self.index, self.data.keys_of(self.data.train_set or []))
        if self.settings.lexical and self.index.segments > 1:
            self._scorer = self.scorer()

    def scorer(self) -> SegmentScorer | None:
        """The lexical scores, learned or restored; None where they are switched off."""
        if not self.settings.lexical or self.index.segments < 2 or not self.data.train_set:
            return None
        if self._scorer is None:
            steps = self.lexical_steps if self._restored is None else 0
            self._scorer = self._train_scorer(steps)
            if self._restored is not None:
                self._scorer.model.load_state_dict(self._restored)
        return self._scorer

    def _train_scorer(self, steps: int) -> SegmentScorer:
        data, rows = self.data, self.data.train_set or []
        names = data.encode([row["key"][0] for row in rows])
        predicates = data.encode([row["key"][1] for row in rows])
        return train_segment_scorer(
            self.index,
            data.question_tokens([row["question"] for row in rows]),
            [names[i] for i in range(len(rows))],
            [predicates[i] for i in range(len(rows))],
            vocabulary=len(data.tokenizer),
            silent=list(data.tokenizer.all_special_ids),
            steps=steps,
            seed=data.seed,
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the lexical weights beside the model's."""
        if self._scorer is not None:
            checkpoint["lexical"] = dict(self._scorer.model.state_dict())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the lexical weights back; they are not learned again."""
        self._restored, self._scorer = checkpoint.get("lexical"), None
        self._answerer = None

    def answerer(self) -> Answerer:
        """What answers questions, with all that it needs."""
        if self._answerer is None:
            self._answerer = Answerer(
                self.model, self.data, self.index, self.settings, self.scorer()
            )
        return self._answerer

    # --- evaluation ------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        """Forget the answers of the epoch before."""
        self.found = {}
        self._loss = torch.zeros(2, dtype=torch.float64)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Loss, and the answers of the model alone."""
        log_p = self.model.target_log_p(
            batch["input_ids"], batch["segment"], batch["attention_mask"]
        )
        sums = torch.stack([-log_p.double().sum(), batch["segment"].sum().double()])
        self._loss += sums.cpu()
        self._answer(batch, ["seq2seq"], self.data.valid_set)

    def on_validation_epoch_end(self) -> None:
        """``val/loss`` a token and the official score, over all ranks."""
        total = all_reduce_sum(self._loss.to(self.device))
        self.log("val/loss", (total[0] / total[1].clamp_min(1)).float())
        for name, value in self._scored("seq2seq", self.data.valid_set).items():
            if name in ("em", "f1", "score", "em_s", "em_p"):
                self.log(f"val/{name}", value, prog_bar=name == "score")

    def on_test_epoch_start(self) -> None:
        """A new table; prior and weights are measured anew, since the model may have learned."""
        self._answerer = None
        self.found, self.faults, self.scores = {}, [], {}

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """The answers of every method."""
        methods = self.answerer().methods()
        self._answer(batch, methods if self.baselines else methods[:1], self._test_rows())

    def on_test_epoch_end(self) -> None:
        """``test/…`` of the main method, ``test/METHOD/…`` of all, over all ranks."""
        rows, main = self._test_rows(), self.answerer().methods()[0]
        for method in list(self.found):
            self.scores[method] = self._scored(method, rows)
            for name, value in self.scores[method].items():
                self.log(f"test/{method}/{name}", value)
                if method == main:
                    self.log(f"test/{name}", value)
        self.faults = self._faults(main, rows)

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """``methods``: all figures by method; ``errors``: questions answered wrongly."""
        rows = [{"method": method, **scores} for method, scores in self.scores.items()]
        return {"methods": rows, "errors": self.faults}

    def _test_rows(self) -> Any:
        return self.data.test_set or self.data.valid_set

    def _answer(self, batch: dict[str, Tensor], methods: list[str], rows: Any) -> None:
        numbers = batch["row_id"].tolist()
        texts = [rows[i]["question"] for i in numbers]
        answerer = self.answerer()
        for method in methods:
            pool = self.found.setdefault(method, {})
            for number, found in zip(numbers, answerer.answer(method, texts), strict=True):
                pool[number] = found[:1]

    def _scored(self, method: str, rows: Any) -> dict[str, float]:
        """Figures over the answers of all ranks, each question once."""
        pools = all_gather_objects(self.found.get(method, {}))
        merged = {number: found for pool in pools for number, found in pool.items()}
        self.found[method] = merged
        numbers = sorted(merged)
        if not numbers:
            return {}
        best = [merged[i][0] if merged[i] else Found() for i in numbers]
        scores = official_scores([f.answer for f in best], [gold(rows[i]) for i in numbers])
        scores["keys"] = 100 * sum(f.is_key for f in best) / len(best)
        return scores

    def _faults(self, method: str, rows: Any) -> list[Fault]:
        out = []
        for number, found in sorted(self.found.get(method, {}).items()):
            right, best = gold(rows[number]), found[0] if found else Found()
            if best.answer is None or best.answer.object != right.object:
                shown = best.answer or Answer("", "", "")
                out.append(
                    {"question": rows[number]["question"], "answer": " ||| ".join(shown),
                     "right": " ||| ".join(right), "log_p": best.log_p}
                )  # fmt: skip
        return out


def gold(row: dict[str, Any]) -> Answer:
    """The right answer of a row, the subject with its meaning.

    Example:
        >>> gold({"key": ("甲", "丙", "乙"), "value": "丁"})
        Answer(subject='甲（乙）', predicate='丙', object='丁')
    """
    from kexue_pl.retrieval import join_subject

    key = (*row["key"], "", "")
    return Answer(join_subject(key[0], key[2]), key[1], row["value"])
