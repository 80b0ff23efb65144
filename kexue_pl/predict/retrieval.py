"""How well a bi-encoder finds the documents that are known to answer queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from kexue_pl.reading import Field, RowPolicy, Table, read_table
from kexue_pl.run.errors import RunError

__all__ = ["evaluate_retrieval", "read_documents", "read_relevance"]

Gains = Mapping[int, Mapping[int, float]]


def read_documents(source: str, column: str | int | None, policy: RowPolicy) -> Table:
    """Texts, with the column ``id`` where the file has one (``_id``, ``qid``, ``docid`` too)."""
    names = ("text1", "sentence", "sentence1", "question", "query", "document", "passage")
    fields = {
        "text": Field(column=column, aliases=names),
        "id": Field("any", aliases=("_id", "qid", "docid"), required=False, by_name=True),
    }
    return read_table(source, fields, policy=policy)


def read_relevance(
    source: str, queries: Table, corpus: Table, policy: RowPolicy
) -> dict[int, dict[int, float]]:
    """Row of a query -> row of a document -> gain, from rows query, document, gain.

    Queries and documents are named by their ids, or by their 0-based rows where their file has no
    ids. A missing gain counts 1; a gain of 0 says that the document is not relevant.

    Raises:
        RunError: an unknown id or row, named with its line.
    """
    fields = {
        "query": Field("any", aliases=("query-id", "query_id", "qid")),
        "document": Field("any", aliases=("corpus-id", "corpus_id", "docid", "doc_id")),
        "gain": Field("number", aliases=("score", "relevance", "label"), required=False, low=0),
    }
    table = read_table(source, fields, policy=policy)
    places = {"query": _places(queries), "document": _places(corpus)}
    gains: dict[int, dict[int, float]] = {}
    for number, row in enumerate(table):
        found = {}
        for side, known in places.items():
            name = str(row[side])
            if name not in known:
                raise RunError(
                    f"{table.where(number)}: no {side} {name!r}; name it by the column id of its "
                    f"file, or by its 0-based row if the file has none"
                )
            found[side] = known[name]
        gain = float(row.get("gain", 1.0))
        if gain > 0:
            gains.setdefault(found["query"], {})[found["document"]] = gain
    if not gains:
        raise RunError(f"relevance={source}: no query has a relevant document")
    return gains


def _places(table: Table) -> dict[str, int]:
    ids = table.columns.get("id")
    return {str(name): row for row, name in enumerate(ids or range(len(table)))}


def evaluate_retrieval(
    rows: Tensor | np.ndarray, gains: Gains, *, ks: Sequence[int] = (1, 5, 10)
) -> list[dict[str, Any]]:
    """Recall@k for each k, and MRR and NDCG at the largest k, of each query with relevant documents.

        recall@k = relevant among the first k / all relevant      RR@k = 1 / rank of the first
        NDCG@k = sum over ranks r <= k of gain_r / log2(r + 1), over that of the best order

    The same figures as :class:`kexue_pl.metrics.Retrieval`, from the best documents alone instead of
    the scores of all.

    Args:
        rows: (Q, K) documents of each query, best first, K >= the largest k or the whole corpus.
        gains: query -> document -> gain > 0.
        ks: cut-offs.

    >>> found = evaluate_retrieval(np.array([[4, 7]]), {0: {7: 1.0}}, ks=(1, 2))[0]
    >>> found["recall@1"], found["recall@2"], found["mrr@2"], round(found["ndcg@2"], 3)
    (0.0, 1.0, 0.5, 0.631)
    """
    ks = sorted(set(ks))
    top = ks[-1]
    discount = 1 / np.log2(np.arange(2, top + 2))
    out = []
    for query in sorted(gains):
        known = gains[query]
        got = np.array([known.get(int(row), 0.0) for row in rows[query][:top]])
        best = np.sort(list(known.values()))[::-1][:top]
        hits = np.flatnonzero(got > 0)
        one: dict[str, Any] = {"query": query}
        one |= {f"recall@{k}": float((hits < k).sum() / len(known)) for k in ks}
        one[f"mrr@{top}"] = 1.0 / (1 + float(hits[0])) if len(hits) else 0.0
        ideal = float(best @ discount[: len(best)])
        one[f"ndcg@{top}"] = float(got @ discount[: len(got)]) / ideal
        out.append(one)
    return out
