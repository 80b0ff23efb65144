"""A synthetic base from script to index."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from kexue_pl.retrieval import PrefixIndex, split_subject

SCRIPTS = Path(__file__).parents[2] / "scripts"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_synthetic_base_becomes_an_index_that_answers_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "base.tsv"
    load("make_synthetic_kb").main([str(base), "--scale", "0.0001"])
    load("build_index").main([str(base), str(tmp_path / "index")])
    assert "2,055 rows" in capsys.readouterr().out
    index = PrefixIndex.load(tmp_path / "index")
    assert (tmp_path / "index" / "tokenizer" / "tokenizer.json").exists()
    rows = [line.split("\t") for line in base.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == len(index) == 2055
    names = {split_subject(s) for s, _, _ in rows}
    got = {(index.texts(r)[0], index.texts(r)[2]) for r in range(len(index))}
    assert got == names and any(m for _, m in names)
    values = sorted(str(index.value(r)) for r in range(len(index)))
    assert values == sorted(o for *_, o in rows)


def test_same_seed_same_base(tmp_path: Path) -> None:
    write = load("make_synthetic_kb").write
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write(tmp_path / name, scale=0.00001, seed=seed)
    a, b, c = ((tmp_path / n).read_bytes() for n in "abc")
    assert a == b != c


def test_flat_keys_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "titles.tsv").write_text("甲（乙）\n丙\n", encoding="utf-8")
    arguments = [str(tmp_path / "titles.tsv"), str(tmp_path / "index"), "--keys", "title"]
    load("build_index").main([*arguments, "--value", "", "--no-meaning"])
    index = PrefixIndex.load(tmp_path / "index")
    assert index.segments == 1 and {index.texts(r)[0] for r in range(2)} == {"甲（乙）", "丙"}
