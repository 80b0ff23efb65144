from __future__ import annotations

import numpy as np
import pytest

from kexue_pl.data.world import pairs


def test_counts_labels_and_grades() -> None:
    rows = pairs(0, "train")
    assert len(rows) == 8000
    share = np.mean([row.label for row in rows])
    assert 0.35 < share < 0.5
    assert {row.grade for row in rows} == {0, 1, 2, 3, 5}
    assert all((row.grade == 5) == (row.label == 1) for row in rows)
    assert len({frozenset((row.text1, row.text2)) for row in rows}) == len(rows)


def test_no_text_is_shared_between_splits() -> None:
    texts = [
        {text for row in pairs(0, split) for text in (row.text1, row.text2)}
        for split in ("train", "valid", "test")
    ]
    assert not texts[0] & texts[1] and not texts[0] & texts[2] and not texts[1] & texts[2]


def test_the_seed_decides() -> None:
    assert pairs(5, "valid") == pairs(5, "valid") != pairs(6, "valid")


def test_a_bag_of_characters_does_not_solve_it() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    train, test = pairs(0, "train"), pairs(0, "test")
    model = TfidfVectorizer(analyzer="char").fit([t for r in train for t in (r.text1, r.text2)])
    left = model.transform([row.text1 for row in test])
    right = model.transform([row.text2 for row in test])
    scores = np.asarray(left.multiply(right).sum(1)).ravel()
    labels = np.array([row.label for row in test])
    oracle = max(((scores > cut) == labels).mean() for cut in np.unique(scores))
    assert oracle < 0.70


def test_bad_count() -> None:
    with pytest.raises(ValueError, match=r"count=0: expected 1 to"):
        pairs(0, "test", count=0)
