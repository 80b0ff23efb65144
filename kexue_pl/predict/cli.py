"""`kexue-predict`: scores of pairs, embeddings, neighbours, retrieval figures, hard negatives."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kexue_pl.run.config import config_dir
from kexue_pl.run.errors import RunError
from kexue_pl.run.overrides import quote

__all__ = ["main", "predict"]

# What the user can mend: values, files, damaged checkpoints, too little memory.
_MENDABLE = (ValueError, OSError, RuntimeError)

_MODES = ("pairs", "encode", "neighbours", "retrieval", "mine", "questions", "submission")
_INDEXES = ("exact", "faiss")


def main(arguments: list[str] | None = None) -> int:
    """Entry of ``scripts/predict.py`` and ``kexue-predict``; the exit code.

    Errors are said in at most six lines.
    """
    words = [quote(word) for word in (sys.argv[1:] if arguments is None else arguments)]
    if not words or {"-h", "--help"} & set(words):
        print((config_dir() / "predict.yaml").read_text(encoding="utf-8"))
        return 0
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            config = compose("predict", overrides=words)
        _check(config)
        print(predict(config))
    except (RunError, HydraException, OmegaConfBaseException, *_MENDABLE) as error:
        print("\n".join(f"error: {error}".splitlines()[:6]), file=sys.stderr)
        return 1
    return 0


def _check(config: DictConfig) -> None:
    needed = ["checkpoint", *(["input"] if not config.question else [])]
    needed += ["output"] if config.mode != "questions" else []
    missing = [
        f"{key}: required; set {key}=VALUE"
        for key in needed
        if OmegaConf.is_missing(config, key) or config[key] is None
    ]
    if config.mode not in _MODES:
        missing.append(f"mode={config.mode}: expected one of {', '.join(_MODES)}")
    wanted = {"neighbours": ("corpus",), "retrieval": ("corpus", "relevance")}
    for key in wanted.get(config.mode, ()):
        if config[key] is None:
            missing.append(f"{key}: required by mode={config.mode}; set {key}=FILE")
    if config.index not in _INDEXES:
        missing.append(f"index={config.index}: expected {' or '.join(_INDEXES)}")
    if missing:
        raise RunError("\n".join(sorted(missing)))


def predict(config: Any) -> str:
    """Do what a configuration of ``conf/predict.yaml`` asks for; one line that says what was done."""
    from kexue_pl.predict.restore import restore
    from kexue_pl.reading import RowPolicy

    if config.mode in ("questions", "submission"):
        return _answer(config)
    output = Path(config.output)
    report = Path(config.bad_rows or f"{output}.bad_rows.jsonl")
    policy = RowPolicy(config.on_error, config.max_bad, report)
    restored = restore(config.checkpoint)
    restored.task.to(config.device)
    if config.mode == "pairs":
        return _pairs(config, restored, policy, output)
    if config.mode == "mine":
        return _mine(config, restored, policy, output)
    if config.mode == "retrieval":
        return _retrieval(config, restored, policy, output)
    return _texts(config, restored, policy, output)


def _pairs(config: Any, restored: Any, policy: Any, output: Path) -> str:
    from kexue_pl.predict.pairs import score_file, write_scores

    found = score_file(
        restored,
        config.input,
        text1_column=config.text1_column,
        text2_column=config.text2_column,
        policy=policy,
        batch_size=config.batch_size,
    )
    write_scores(found, output)
    return f"{len(found.scores)} pairs scored, {found.bad} bad rows left out: {output}"


def _answer(config: Any) -> str:
    """Answers of a kgclue checkpoint: to a typed question, to a file, or KgCLUE's submission."""
    from kexue_pl.predict.pairs import write_rows
    from kexue_pl.predict.questions import answer_questions, write_submission
    from kexue_pl.predict.restore import restore
    from kexue_pl.reading import RowPolicy

    task = restore(config.checkpoint, task="kgclue").task.to(config.device)
    output = Path(config.output) if config.output else None
    if config.mode == "submission":
        return f"submission written: {write_submission(task, config.input, output or 'test.json')}"
    policy = RowPolicy(config.on_error, config.max_bad, Path(f"{output}.bad_rows.jsonl"))
    asked = [config.question] if config.question else None
    questions = asked or _read_texts(config.input, config.text_column, policy)
    answers = answer_questions(task, questions, batch_size=config.batch_size)
    rows = [
        {"question": question, "rank": place + 1, **best}
        for question, found in zip(questions, answers, strict=True)
        for place, best in enumerate(found)
    ]
    if output is None:
        return "\n".join(
            "{subject} ||| {predicate} ||| {object}   {probability:.4f}".format(**row)
            for row in rows
        )
    write_rows(rows, output)
    return f"{len(questions)} questions answered, {len(policy.bad)} bad rows left out: {output}"


def _mine(config: Any, restored: Any, policy: Any, output: Path) -> str:
    from kexue_pl.data.files import pair_fields
    from kexue_pl.predict.mine import mine_negatives
    from kexue_pl.predict.pairs import write_rows
    from kexue_pl.reading import read_table

    fields = pair_fields(text1_column=config.text1_column, text2_column=config.text2_column)
    table = read_table(config.input, fields, policy=policy)
    rows = mine_negatives(
        restored,
        table,
        positive_from=config.positive_from,
        count=config.negatives,
        skip=config.skip,
        margin=config.margin,
        batch_size=config.batch_size,
    )
    if not rows:
        raise RunError(f"input={config.input}: no negative was found")
    write_rows(rows, output)
    return f"{len(rows)} hard negatives, {len(policy.bad)} bad rows left out: {output}"


def _texts(config: Any, restored: Any, policy: Any, output: Path) -> str:
    from kexue_pl.predict.texts import encode, write_embeddings

    texts = _read_texts(config.input, config.text_column, policy)
    vectors = encode(restored, texts, batch_size=config.batch_size)
    if config.mode == "encode":
        write_embeddings(texts, vectors, output)
        return f"{len(texts)} texts encoded, {len(policy.bad)} bad rows left out: {output}"
    corpus = _read_texts(config.corpus, config.text_column, policy)
    known = encode(restored, corpus, batch_size=config.batch_size)
    scores, rows = _nearest(config, vectors, known)
    _write_neighbours(texts, corpus, scores, rows, output)
    return f"{rows.shape[1]} neighbours of {len(texts)} texts in {len(corpus)}: {output}"


def _nearest(config: Any, queries: Any, corpus: Any) -> tuple[Any, Any]:
    from kexue_pl.predict.texts import nearest, nearest_by_faiss

    k = min(config.k, len(corpus))
    if config.index == "faiss":
        return nearest_by_faiss(queries, corpus, k=k, factory=config.faiss_factory)
    return nearest(queries, corpus, k=k)


def _retrieval(config: Any, restored: Any, policy: Any, output: Path) -> str:
    from kexue_pl.predict.pairs import write_rows
    from kexue_pl.predict.retrieval import evaluate_retrieval, read_documents, read_relevance
    from kexue_pl.predict.texts import encode

    queries, corpus = (
        read_documents(source, config.text_column, policy)
        for source in (config.input, config.corpus)
    )
    gains = read_relevance(config.relevance, queries, corpus, policy)
    vectors, known = (
        encode(restored, table.columns["text"], batch_size=config.batch_size)
        for table in (queries, corpus)
    )
    _, rows = _nearest(config, vectors, known)
    ks = sorted({min(k, config.k) for k in (1, 5, config.k)})
    found = evaluate_retrieval(rows, gains, ks=ks)
    write_rows([row | {"text": queries.columns["text"][row["query"]]} for row in found], output)
    means = {name: sum(row[name] for row in found) / len(found) for name in found[0]}
    told = ", ".join(f"{name} {value:.4f}" for name, value in means.items() if name != "query")
    return f"{len(found)} queries in {len(corpus)} documents: {told}; each query: {output}"


def _read_texts(source: str, column: str | int | None, policy: Any) -> list[str]:
    from kexue_pl.reading import Field, read_table

    aliases = ("text1", "sentence", "sentence1", "question", "query")
    field = Field(column=column, aliases=aliases)
    texts: list[str] = read_table(source, {"text": field}, policy=policy).columns["text"]
    return texts


def _write_neighbours(
    texts: list[str], corpus: list[str], scores: Any, rows: Any, output: Path
) -> None:
    from kexue_pl.predict.pairs import write_rows

    found = [
        {
            "text": texts[query],
            "rank": place + 1,
            "score": float(scores[query, place]),
            "row": int(row),
            "neighbour": corpus[int(row)],
        }
        for query in range(len(texts))
        for place, row in enumerate(rows[query])
    ]
    write_rows(found, output)


if __name__ == "__main__":
    sys.exit(main())
