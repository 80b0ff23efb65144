"""Segment scores: learned past the rule, a distribution over keys, each part a switch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from kexue_pl.retrieval import PrefixIndex, Strings
from kexue_pl.retrieval.lexical_training import SegmentScorer, train_segment_scorer
from kexue_pl.retrieval.names import find_names
from kexue_pl.retrieval.rule import rule
from kexue_pl.retrieval.segment_search import SegmentSearch
from kexue_pl.retrieval.tuning import Weights
from tests.retrieval.toy import SEP, VOCABULARY, toy

Trained = tuple[PrefixIndex, Strings, list[list[int]], list[list[int]], SegmentScorer]


@pytest.fixture(scope="module")
def trained() -> Trained:
    index, questions, names, predicates = toy(0)
    scorer = train_segment_scorer(
        index, questions, names, predicates, vocabulary=VOCABULARY, silent=[0, 1, SEP], steps=120
    )
    return index, questions, names, predicates, scorer


def right(index: PrefixIndex, rows: list[int], names: Any, predicates: Any) -> float:
    want = [[*n, SEP, *p, SEP, SEP] for n, p in zip(names, predicates)]
    return float(np.mean([r >= 0 and index.key(r) == k for r, k in zip(rows, want)]))


def test_scorer_learns_past_the_rule(trained: Trained) -> None:
    index, questions, names, predicates, scorer = trained
    found = SegmentSearch(index, scorer).search(questions)
    learned = right(index, [h[0].lo if h else -1 for h in found], names, predicates)
    ruled = right(index, rule(index, questions, VOCABULARY).tolist(), names, predicates)
    # The longest name is a common word, which the rule takes every time.
    assert ruled == 0 and learned > 0.7


def test_keys_of_the_names_found_share_a_probability_of_one(trained: Trained) -> None:
    index, questions, _, _, scorer = trained
    search = SegmentSearch(index, scorer, names_kept=100)
    for found in search.search(questions.take(np.arange(5)), answers=1000):
        assert sum(np.exp([h.score for h in found])) == pytest.approx(1)
        assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)


def test_no_name_no_answer_and_a_batch_equals_its_parts(trained: Trained) -> None:
    index, questions, _, _, scorer = trained
    search = SegmentSearch(index, scorer)
    batch = Strings.of([questions[0], [39], questions[1]])
    out = search.search(batch)
    assert out[1] == []
    alone = search.search(Strings.of([questions[1]]))[0]
    assert [h.tokens for h in alone] == [h.tokens for h in out[2]]
    assert [h.score for h in alone] == pytest.approx([h.score for h in out[2]], abs=1e-5)


def test_model_and_prior_are_switches(trained: Trained) -> None:
    index, questions, _, _, scorer = trained
    predicates = int(index.base[2] - index.base[1])
    prior = np.linspace(-5, 0, predicates)
    echo = lambda question, name, predicate: prior[predicate]  # noqa: E731
    plain = SegmentSearch(index, scorer).search(questions)
    # A model that knows nothing but its prior says nothing once the prior is subtracted.
    both = SegmentSearch(index, scorer, Weights(model=0.6), log_prior=prior).search(
        questions, model=echo
    )
    assert [h[0].tokens for h in both] == [h[0].tokens for h in plain]
    alone = SegmentSearch(index, scorer, Weights(0, 100.0, 0))
    for found, question in zip(alone.search(questions, model=echo), plain, strict=True):
        name = found[0].tokens[: found[0].tokens.index(SEP)]
        state = index.find([*name, SEP])
        assert state is not None and question
        lo, hi = (int(x[0]) for x in index.leaves(state))
        ids = index.arrays["ids"][0]
        assert ids[found[0].lo] == ids[lo:hi].max()
    with pytest.raises(ValueError, match="give log_prior"):
        SegmentSearch(index, scorer, Weights(model=0.6))


def test_weights_are_learned_on_known_answers(trained: Trained) -> None:
    index, questions, names, predicates, scorer = trained
    rng = np.random.default_rng(0)
    prior = rng.normal(size=int(index.base[2] - index.base[1])) * 3
    # A model that knows the answer, blurred by a liking of its own which is its prior.
    right = {}
    for q, p in enumerate(predicates):
        pool = index.pool_strings(np.arange(index.base[1], index.base[2]))
        right[q] = [pool[i] for i in range(len(pool))].index(p)

    def knows(question: Any, name: Any, predicate: Any) -> Any:
        hit = np.array([right[q] == p for q, p in zip(question.tolist(), predicate.tolist())])
        return 2.0 * hit + rng.normal(size=len(hit)) + prior[predicate]

    keys = [[n, p, []] for n, p in zip(names, predicates, strict=True)]
    search = SegmentSearch(index, scorer, Weights(1, 1, 1), log_prior=prior)
    found = search.tuned(questions, keys, knows)
    # The ridge decides between weights that all separate these few questions; test_tuning.py recovers
    # known weights from many. Here: all parts are used, and more questions are answered.
    assert found.features and found.model > 0.5 and found.prior > 0.5

    def answered(weights: Weights) -> int:
        hits = SegmentSearch(index, scorer, weights, log_prior=prior).search(questions, model=knows)
        wanted = zip(names, predicates, strict=True)
        return sum(
            list(h[0].tokens[: len(n) + len(p) + 1]) == [*n, SEP, *p]
            for h, (n, p) in zip(hits, wanted)
        )

    assert answered(found) > answered(Weights(0, 1, 0))
    # A model that knows nothing is switched off; what was off stays off.

    def errs(question: Any, name: Any, predicate: Any) -> Any:
        return prior[predicate] - knows(question, name, predicate)

    assert search.tuned(questions, keys, errs)[1:3] == (0, 0)
    off = SegmentSearch(index, scorer, Weights(1, 1, 0), log_prior=prior)
    assert off.tuned(questions, keys, knows).prior == 0
    assert search.tuned(questions.take(np.arange(1)), [[[7], [7], []]], knows) == search.weights


def test_without_a_scorer_the_model_names(trained: Trained) -> None:
    index, questions, _, _, _ = trained
    search = SegmentSearch(index, None, Weights(0, 1, 0))
    first = lambda question, name: -1.0 * name  # noqa: E731
    equal = lambda question, name, predicate: 0.0 * predicate  # noqa: E731
    found = search.search(questions.take(np.arange(9)), model=equal, model_names=first)
    every = find_names(index, questions.take(np.arange(9)))
    for q, hypotheses in enumerate(found):
        lowest = int(every.name[every.question == q].min())
        assert index.strings_of(hypotheses[0].lo)[0] == lowest
    with pytest.raises(ValueError, match="model_names=None"):
        search.search(questions)
    with pytest.raises(ValueError, match="give a scorer, or set lexical=0"):
        SegmentSearch(index, None)


def test_shortest_meaning_is_answered() -> None:
    index, questions, names, predicates = toy(0)
    name, predicate = names[0], predicates[0]
    items = [(index.key(r)[:-1], 0) for r in range(len(index))]
    items.append(([*name, SEP, *predicate, SEP, 7], 1))
    longer = PrefixIndex.build(items, separator=SEP)
    scorer = train_segment_scorer(
        index, questions, names, predicates, vocabulary=VOCABULARY, silent=[SEP], steps=1
    )
    found = SegmentSearch(longer, scorer, names_kept=99).search(
        Strings.of([questions[0]]), answers=99
    )
    mine = [h.tokens for h in found[0] if h.tokens[: len(name)] == tuple(name)]
    assert (*name, SEP, *predicate, SEP, SEP) in mine
    assert all(tokens[-2] == SEP for tokens in mine)


def test_training_is_reproducible_and_leaves_the_generator_alone() -> None:
    index, questions, names, predicates = toy(1, questions=60)
    options = {"vocabulary": VOCABULARY, "silent": [SEP], "steps": 5, "seed": 3}
    before = torch.get_rng_state()
    one, two = (
        train_segment_scorer(index, questions, names, predicates, **options) for _ in range(2)
    )
    assert torch.equal(before, torch.get_rng_state())
    for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert len(find_names(index, questions).name) >= 120
