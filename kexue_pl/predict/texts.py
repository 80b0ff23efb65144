"""Embeddings of texts, and the exact nearest neighbours among them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kexue_pl.data.encoded import encode_texts, pad
from kexue_pl.predict.restore import Restored
from kexue_pl.run.errors import RunError

_LOG = logging.getLogger(__name__)

__all__ = ["encode", "nearest", "nearest_by_faiss", "write_embeddings"]


@torch.inference_mode()
def encode(
    restored: Restored, texts: Sequence[str], *, batch_size: int = 256, normalize: bool = True
) -> Tensor:
    """(N, H) float32 embeddings in the order of ``texts``.

    Args:
        restored: a bi-encoder of task=matching.
        texts: any texts.
        batch_size: texts at once; like lengths go together.
        normalize: to unit length, so that a product is a cosine.

    Raises:
        RunError: the model is no bi-encoder; it has no embedding of a single text.
    """
    model = restored.task.model
    if model.interaction != "bi":
        raise RunError(
            f"{restored.path}: model.interaction={model.interaction} has no embedding of one text; "
            "train with model.interaction=bi"
        )
    encoder, tokenizer = model.encoder, restored.tokenizer
    ids, cut = encode_texts(
        tokenizer, texts, special_tokens=encoder.special_tokens, max_length=encoder.max_length
    )
    if cut:
        _LOG.warning(
            "%d of %d texts were cut to %s tokens, the first is number %d",
            len(cut), len(texts), encoder.max_length, cut[0] + 1,
        )  # fmt: skip
    order = ids.lengths().argsort(kind="stable")
    out = torch.empty(len(texts), encoder.hidden_size)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch, mask = pad([ids[int(row)] for row in rows], tokenizer.pad_token_id or 0)
        device = restored.task.device
        vectors = model.embed(batch.to(device), mask.to(device)).float().cpu()
        out[torch.from_numpy(rows)] = F.normalize(vectors, dim=-1) if normalize else vectors
    return out


def nearest(
    queries: Tensor, corpus: Tensor, *, k: int = 10, chunk: int = 65536, block: int = 1024
) -> tuple[Tensor, Tensor]:
    """Exact nearest neighbours by inner product, at bounded memory.

    Args:
        queries: (Q, H).
        corpus: (N, H); normalized vectors give cosines.
        k: neighbours of each query, at most N.
        chunk: rows of the corpus compared at once.
        block: queries compared at once.

    Returns:
        Scores (Q, k) in falling order and row numbers (Q, k) int64; of equal scores the smaller
        row number comes first within a chunk.

    >>> corpus = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    >>> scores, rows = nearest(torch.tensor([[0.0, 1.0]]), corpus, k=2)
    >>> rows.tolist()
    [[1, 2]]
    """
    if not 1 <= k <= len(corpus):
        raise ValueError(f"k={k}: expected 1 to {len(corpus)}, the size of the corpus")
    parts = [_nearest(part, corpus, k, chunk) for part in torch.split(queries, block)]
    if not parts:
        return torch.empty(0, k), torch.empty(0, k, dtype=torch.long)
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


def _nearest(queries: Tensor, corpus: Tensor, k: int, chunk: int) -> tuple[Tensor, Tensor]:
    best = queries.new_empty(len(queries), 0)
    rows = torch.empty(len(queries), 0, dtype=torch.long, device=queries.device)
    for start in range(0, len(corpus), chunk):
        part = corpus[start : start + chunk]
        scores, found = (queries @ part.T).topk(min(k, len(part)), dim=1)
        best, rows = torch.cat([best, scores], 1), torch.cat([rows, found + start], 1)
        best, order = best.topk(min(k, best.shape[1]), dim=1)
        rows = rows.gather(1, order)
    return best, rows


def nearest_by_faiss(
    queries: Tensor, corpus: Tensor, *, k: int = 10, factory: str = "Flat"
) -> tuple[Tensor, Tensor]:
    """Nearest neighbours by inner product through an index of faiss, for large collections.

    Args:
        queries: (Q, H).
        corpus: (N, H).
        k: neighbours of each query, at most N.
        factory: what index, in the words of ``faiss.index_factory``: ``Flat`` is exact, ``HNSW32`` or
            ``IVF1024,Flat`` are faster and may miss neighbours.

    Returns:
        As `nearest`.

    Raises:
        RunError: faiss is not installed, or does not know the index.
        ValueError: k is out of range.
    """
    try:
        import faiss
    except ImportError as error:
        raise RunError("index=faiss: faiss is missing; pip install faiss-cpu") from error
    if not 1 <= k <= len(corpus):
        raise ValueError(f"k={k}: expected 1 to {len(corpus)}, the size of the corpus")
    try:
        index = faiss.index_factory(corpus.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise RunError(f"faiss_factory={factory}: unknown to faiss; Flat or HNSW32") from error
    vectors = np.ascontiguousarray(corpus.numpy(), dtype=np.float32)
    if not index.is_trained:
        index.train(vectors)
    index.add(vectors)
    scores, rows = index.search(np.ascontiguousarray(queries.numpy(), dtype=np.float32), k)
    return torch.from_numpy(scores), torch.from_numpy(rows)


def write_embeddings(texts: Sequence[str], vectors: Tensor, path: Path) -> None:
    """Write embeddings as ``.npy`` (N, H) or as Parquet with the texts.

    Raises:
        ValueError: another ending.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, vectors.numpy(), allow_pickle=False)
    elif path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as parquet

        flat = pa.array(vectors.numpy().reshape(-1))
        column = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
        table = pa.table({"text": pa.array(list(texts)), "embedding": column})
        parquet.write_table(table, path)
    else:
        raise ValueError(f"output={path}: expected a name ending in .npy or .parquet")
