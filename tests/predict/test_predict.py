from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from kexue_pl.predict.cli import main
from kexue_pl.predict.pairs import score_file, score_pairs
from kexue_pl.predict.restore import restore
from kexue_pl.predict.texts import encode, nearest
from kexue_pl.reading import RowPolicy, Table
from kexue_pl.run.checkpoint_io import CheckpointCorruptError
from kexue_pl.run.errors import RunError
from tests.support.matching_runs import SMALL, STATIC, write_run

PAIRS = [("氢的原子序数", "氢排在第几"), ("法国首都", "德国的首都是哪座城市呢"), ("a", "b")]


def write(folder: Path, text: str, name: str = "in.tsv") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def lines() -> str:
    return "".join(f"{left}\t{right}\n" for left, right in PAIRS)


@pytest.mark.parametrize("how", ["bi", "late", "cross"])
def test_scores_equal_the_task_row_by_row(how: str, tmp_path: Path) -> None:
    path, task = write_run(tmp_path, SMALL | {"interaction": how})
    found = score_file(restore(tmp_path), write(tmp_path, lines()), batch_size=2)
    assert restore(path).path == path and len(found.scores) == 3 and found.bad == 0
    for number, (left, right) in enumerate(PAIRS):
        one = Table({"text1": [left], "text2": [right]}, [("x", 1)])
        again = score_pairs(restore(path), one)
        torch.testing.assert_close(found.scores[number], again[0], atol=1e-5, rtol=1e-5)
    assert float(task.threshold) == found.threshold
    assert [row["match"] for row in found.rows()] == [int(s > 0.4) for s in found.scores.tolist()]


@pytest.mark.parametrize("ending", ["tsv", "csv", "jsonl", "parquet"])
def test_rows_in_are_rows_out_and_bad_rows_are_reported(ending: str, tmp_path: Path) -> None:
    write_run(tmp_path, STATIC)
    source = write(tmp_path, lines() + "一个字段\n" + "甲\t\n" + "丙\t丁\n")
    output = tmp_path / f"out.{ending}"
    words = [f"checkpoint={tmp_path}", f"input={source}", f"output={output}"]
    assert main(words) == 1 and not output.exists()
    assert main([*words, "on_error=skip"]) == 0
    policy = RowPolicy()
    from kexue_pl.reading import Field, read_table

    fields = {n: Field("any" if n in ("score", "match") else "text") for n in
              ("text1", "text2", "score", "match")}  # fmt: skip
    table = read_table(output, fields, policy=policy)
    assert list(zip(table.columns["text1"], table.columns["text2"])) == [*PAIRS, ("丙", "丁")]
    report = Path(f"{output}.bad_rows.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(row)["line"] for row in report] == [4, 5]


def test_labels_are_carried_along(tmp_path: Path) -> None:
    write_run(tmp_path, STATIC)
    found = score_file(restore(tmp_path), write(tmp_path, "甲\t乙\t1\n丙\t丁\t0\n"))
    assert [row["label"] for row in found.rows()] == [1, 0]


def test_no_threshold_no_decision(tmp_path: Path) -> None:
    write_run(tmp_path, STATIC, threshold=float("nan"))
    found = score_file(restore(tmp_path), write(tmp_path, lines()))
    assert all("match" not in row for row in found.rows())


def test_encoding_and_neighbours_by_command(tmp_path: Path) -> None:
    write_run(tmp_path, STATIC)
    source = write(tmp_path, "".join(f"{left}\n" for left, _ in PAIRS), "t.txt")
    common = [f"checkpoint={tmp_path}", f"input={source}"]
    assert main([*common, "mode=encode", f"output={tmp_path / 'e.npy'}"]) == 0
    vectors = np.load(tmp_path / "e.npy", allow_pickle=False)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    wanted = encode(restore(tmp_path), [left for left, _ in PAIRS])
    np.testing.assert_allclose(vectors, wanted.numpy(), atol=1e-6)
    near = [f"corpus={source}", "mode=neighbours", "k=9", f"output={tmp_path / 'n.jsonl'}"]
    assert main([*common, *near]) == 0
    rows = [json.loads(row) for row in (tmp_path / "n.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == 9
    assert [row["row"] for row in rows if row["rank"] == 1] == [0, 1, 2]


def test_nearest_equals_a_full_sort() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, corpus = (
        torch.randn(7, 4, generator=generator),
        torch.randn(50, 4, generator=generator),
    )
    scores, rows = nearest(queries, corpus, k=6, chunk=9, block=3)
    full, order = (queries @ corpus.T).sort(1, descending=True)
    assert torch.equal(rows, order[:, :6])
    torch.testing.assert_close(scores, full[:, :6])
    with pytest.raises(ValueError, match=r"k=51: expected 1 to 50"):
        nearest(queries, corpus, k=51)


def test_cross_encoders_have_no_embedding_of_one_text(tmp_path: Path) -> None:
    write_run(tmp_path, SMALL | {"interaction": "cross"})
    with pytest.raises(RunError, match=r"train with model.interaction=bi"):
        encode(restore(tmp_path), ["甲"])


def test_mistakes_are_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = write_run(tmp_path, STATIC)
    assert main(["mode=rank"]) == 1
    assert (
        "mode=rank: expected one of pairs, encode, neighbours, retrieval" in capsys.readouterr().err
    )
    assert main([f"checkpoint={tmp_path}/none", "input=a.tsv", "output=b.tsv"]) == 1
    assert "nor a run folder with checkpoints/best.ckpt" in capsys.readouterr().err
    assert main(["--help"]) == 0 and "checkpoint: ???" in capsys.readouterr().out
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointCorruptError):
        restore(path)
    assert main([f"checkpoint={path}", "input=a.tsv", "output=b.tsv"]) == 1
    assert len(capsys.readouterr().err.splitlines()) <= 6


def test_mined_negatives_are_near_and_no_matches(tmp_path: Path) -> None:
    write_run(tmp_path, STATIC)
    lines = ["氢的符号\t氢的字母\t1", "氢的符号\t氢的记号\t1", "氧的符号\t氧的字母\t1",
             "铁的符号\t氢的符号\t0", "铁的熔点\t甲乙丙丁\t0"]  # fmt: skip
    source = write(tmp_path, "\n".join(lines))
    output = tmp_path / "mined.jsonl"
    words = [f"checkpoint={tmp_path}", f"input={source}", f"output={output}", "mode=mine"]
    assert main(words) == 0
    rows = [json.loads(row) for row in output.read_text(encoding="utf-8").splitlines()]
    matches = {("氢的符号", "氢的字母"), ("氢的符号", "氢的记号"), ("氧的符号", "氧的字母")}
    assert rows and {(row["anchor"], row["positive"]) for row in rows} <= matches
    for row in rows:
        assert (row["anchor"], row["negative"]) not in matches and row["negative"] != row["anchor"]
        left, positive = encode(restore(tmp_path), [row["anchor"], row["positive"]])
        assert row["score"] <= float(left @ positive) + 1e-6
    for option, wanted in (("negatives=2", 2 * len(rows)), ("skip=1", len(rows))):
        assert main([*words, option]) == 0
        more = [json.loads(row) for row in output.read_text(encoding="utf-8").splitlines()]
        assert len(more) == wanted
        assert (rows[0] in more) == (option == "negatives=2")
    none = write(tmp_path, "甲\t乙\t0\n丙\t丁\t0\n", "none.tsv")
    assert main([words[0], f"input={none}", words[2], "mode=mine"]) == 1
