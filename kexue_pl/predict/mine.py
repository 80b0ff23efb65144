"""Hard negatives: texts that a trained bi-encoder takes for matches and that are none."""

from __future__ import annotations

from typing import Any

from kexue_pl.predict.restore import Restored
from kexue_pl.predict.texts import encode, nearest
from kexue_pl.reading import Table

__all__ = ["mine_negatives"]


def mine_negatives(
    restored: Restored,
    table: Table,
    *,
    positive_from: float = 1.0,
    count: int = 1,
    skip: int = 0,
    margin: float = 0.0,
    batch_size: int = 256,
) -> list[dict[str, Any]]:
    """Triplets of a text, its match, and texts that are near without being a match.

    A candidate is any second text of the table. Those that the table itself calls a match of the
    first text, the first text itself, and candidates whose cosine comes within ``margin`` of the
    true match (they may be unlabelled matches) are left out.

    Args:
        restored: a bi-encoder of task=matching.
        table: columns ``text1``, ``text2`` and ``label``.
        positive_from: labels from here on are matches.
        count: negatives of each match, fewer where there are no more.
        skip: nearest candidates left out, a further guard against unlabelled matches.
        margin: how far below the true match a negative's cosine must be.
        batch_size: texts at once.

    Returns:
        Rows ``{"anchor", "positive", "negative", "score"}``, ready for ``data=files``.
    """
    left, right = table.columns["text1"], table.columns["text2"]
    labels = table.columns["label"]
    chosen = [row for row in range(len(table)) if labels[row] >= positive_from]
    if not chosen:
        raise ValueError(f"no label reaches positive_from={positive_from}; nothing to mine for")
    matches: dict[str, set[str]] = {}
    for row in chosen:
        matches.setdefault(left[row], {left[row]}).add(right[row])
    corpus = list(dict.fromkeys(right))
    known = encode(restored, corpus, batch_size=batch_size)
    queries = encode(restored, [left[row] for row in chosen], batch_size=batch_size)
    place = {text: number for number, text in enumerate(corpus)}
    most = max(len(texts) for texts in matches.values())
    scores, rows = nearest(queries, known, k=min(len(corpus), most + skip + 16 * count))
    found = []
    for number, row in enumerate(chosen):
        limit = float(queries[number] @ known[place[right[row]]]) - margin
        near = [
            (corpus[int(at)], float(score))
            for at, score in zip(rows[number], scores[number])
            if corpus[int(at)] not in matches[left[row]] and float(score) <= limit
        ]
        found += [
            {"anchor": left[row], "positive": right[row], "negative": text, "score": score}
            for text, score in near[skip : skip + count]
        ]
    return found
