from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from kexue_pl.metrics import Retrieval
from kexue_pl.predict.cli import main
from kexue_pl.predict.restore import restore
from kexue_pl.predict.retrieval import evaluate_retrieval
from kexue_pl.predict.texts import encode, nearest, nearest_by_faiss
from kexue_pl.run.errors import RunError
from tests.support.matching_runs import STATIC, write_run

QUERIES = ["氢的符号", "氧的符号", "铁的熔点"]
CORPUS = ["氢的字母", "氧的记号", "铁在几度熔化", "法国首都", "氢的记号"]
GAINS = {0: {0: 2.0, 4: 1.0}, 1: {1: 1.0}, 2: {2: 1.0}}


def problem() -> tuple[torch.Tensor, torch.Tensor, dict[int, dict[int, float]]]:
    g = torch.Generator().manual_seed(0)
    scores = torch.rand(40, 25, generator=g)
    relevance = torch.randint(0, 4, (40, 25), generator=g) * (torch.rand(40, 25, generator=g) < 0.2)
    relevance[torch.arange(40), torch.randint(0, 25, (40,), generator=g)] = 1
    gains = {
        q: {d: float(v) for d, v in enumerate(row) if v > 0}
        for q, row in enumerate(relevance.tolist())
    }
    return scores, relevance, gains


def test_equals_the_metric_over_all_documents() -> None:
    scores, relevance, gains = problem()
    metric = Retrieval(ks=(1, 3, 7))
    metric.update(scores, relevance)
    found = evaluate_retrieval(scores.topk(7).indices, gains, ks=(1, 3, 7))
    for name, value in metric.compute().items():
        mean = float(np.mean([row[name] for row in found]))
        assert mean == pytest.approx(float(value), abs=1e-6), name
    worst = evaluate_retrieval((-scores).topk(7).indices, gains, ks=(1, 3, 7))
    assert np.mean([r["ndcg@7"] for r in worst]) != np.mean([r["ndcg@7"] for r in found])


def test_equals_the_evaluator_of_sentence_transformers() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("sentence_transformers")
        from sentence_transformers.evaluation import InformationRetrievalEvaluator
    scores, _, gains = problem()
    binary = {query: dict.fromkeys(found, 1.0) for query, found in gains.items()}
    names = {str(d): "" for d in range(25)}
    peer = InformationRetrievalEvaluator(
        {str(q): "" for q in range(40)},
        names,
        {str(q): {str(d) for d in found} for q, found in binary.items()},
        mrr_at_k=[7],
        ndcg_at_k=[7],
        precision_recall_at_k=[1, 3, 7],
    )
    best = scores.topk(7)
    hits = [
        [{"corpus_id": str(d), "score": s} for d, s in zip(docs, values)]
        for docs, values in zip(best.indices.tolist(), best.values.tolist())
    ]
    wanted = peer.compute_metrics(hits)
    found = evaluate_retrieval(best.indices, binary, ks=(1, 3, 7))
    means = {name: np.mean([row[name] for row in found]) for name in found[0] if name != "query"}
    for k in (1, 3, 7):
        assert means[f"recall@{k}"] == pytest.approx(wanted["recall@k"][k])
    assert means["mrr@7"] == pytest.approx(wanted["mrr@k"][7])
    assert means["ndcg@7"] == pytest.approx(wanted["ndcg@k"][7])


def files(folder: Path, *, ids: bool) -> list[str]:
    write_run(folder, STATIC)
    for name, texts in (("q", QUERIES), ("d", CORPUS)):
        rows = [
            {"text": text} | ({"id": f"{name}{i}"} if ids else {}) for i, text in enumerate(texts)
        ]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    word = (lambda side, row: f"{side}{row}") if ids else (lambda side, row: str(row))
    lines = [
        f"{word('q', query)}\t{word('d', document)}\t{gain:g}"
        for query, known in GAINS.items()
        for document, gain in known.items()
    ]
    (folder / "r.tsv").write_text("query\tdocument\tgain\n" + "\n".join(lines) + "\n", "utf-8")
    return [
        f"checkpoint={folder}",
        "mode=retrieval",
        f"input={folder / 'q.jsonl'}",
        f"corpus={folder / 'd.jsonl'}",
        f"relevance={folder / 'r.tsv'}",
        f"output={folder / 'out.jsonl'}",
        "k=3",
    ]


@pytest.mark.parametrize("ids", [True, False])
def test_by_command(ids: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(files(tmp_path, ids=ids)) == 0
    said = capsys.readouterr().out
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    restored = restore(tmp_path)
    best = nearest(encode(restored, QUERIES), encode(restored, CORPUS), k=3)[1]
    wanted = evaluate_retrieval(best, GAINS, ks=(1, 3))
    assert [row["ndcg@3"] for row in rows] == [row["ndcg@3"] for row in wanted]
    assert [row["text"] for row in rows] == QUERIES
    assert f"recall@1 {np.mean([r['recall@1'] for r in wanted]):.4f}" in said


def test_unknown_names_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = files(tmp_path, ids=True)
    (tmp_path / "r.tsv").write_text("query\tdocument\tgain\nq0\tx9\t1\n", encoding="utf-8")
    assert main(words) == 1
    assert "r.tsv:2: no document 'x9'" in capsys.readouterr().err
    assert main([word for word in words if not word.startswith("relevance")]) == 1
    assert "relevance: required by mode=retrieval" in capsys.readouterr().err
    assert main([*words, "index=annoy"]) == 1
    assert "index=annoy: expected exact or faiss" in capsys.readouterr().err


def test_faiss_finds_the_same_neighbours(tmp_path: Path) -> None:
    pytest.importorskip("faiss", reason="faiss-cpu is not installed")
    g = torch.Generator().manual_seed(0)
    queries, corpus = (
        torch.nn.functional.normalize(torch.randn(n, 16, generator=g), dim=-1) for n in (9, 300)
    )
    scores, rows = nearest(queries, corpus, k=5)
    found, order = nearest_by_faiss(queries, corpus, k=5)
    assert torch.equal(order, rows)
    torch.testing.assert_close(found, scores)
    _, near = nearest_by_faiss(queries, corpus, k=5, factory="HNSW32")
    assert (near == rows).float().mean() > 0.9
    with pytest.raises(RunError, match=r"faiss_factory=Nothing: unknown to faiss"):
        nearest_by_faiss(queries, corpus, factory="Nothing")
    with pytest.raises(ValueError, match=r"k=301: expected 1 to 300"):
        nearest_by_faiss(queries, corpus, k=301)
    words = files(tmp_path, ids=False)
    assert main(words) == 0
    exact = (tmp_path / "out.jsonl").read_text("utf-8")
    assert main([*words, "index=faiss"]) == 0
    assert (tmp_path / "out.jsonl").read_text("utf-8") == exact


def test_without_faiss_the_command_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(RunError, match="pip install faiss-cpu"):
        nearest_by_faiss(torch.eye(2), torch.eye(2), k=1)
