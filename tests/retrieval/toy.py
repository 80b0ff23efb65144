"""A toy base whose questions name a subject and half of a predicate."""

from __future__ import annotations

import numpy as np

from kexue_pl.retrieval import PrefixIndex, Strings

SEP, FIRST = 2, 3
VOCABULARY = 60


def toy(
    seed: int = 0, subjects: int = 40, questions: int = 300
) -> tuple[PrefixIndex, Strings, list[list[int]], list[list[int]]]:
    """(index, questions, names, predicates); half of the predicate's tokens stand in the
    question.
    """
    rng = np.random.default_rng(seed)
    word = lambda n, low, high: rng.integers(low, high, n).tolist()  # noqa: E731
    names = [[50 + i // 8, *word(2, 40, 50)] for i in range(subjects)]
    predicates = [word(3, FIRST, 25) for _ in range(30)]
    items, of = [], []
    for name in names:
        chosen = rng.choice(len(predicates), 6, replace=False).tolist()
        of.append(chosen)
        items += [([*name, SEP, *predicates[p], SEP], i) for i, p in enumerate(chosen)]
    # A name that is a common word: it stands in every question and answers none.
    items.append(([30, 31, 32, 33, SEP, *predicates[0], SEP], 99))
    texts, right, asked = [], [], []
    for _ in range(questions):
        s = int(rng.integers(subjects))
        p = predicates[of[s][int(rng.integers(6))]]
        texts.append([30, 31, 32, 33, *names[s], *p[:2], *word(2, 34, 40)])
        right.append(names[s])
        asked.append(p)
    return PrefixIndex.build(items, separator=SEP), Strings.of(texts), right, asked
