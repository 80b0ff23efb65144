"""Question data: layout, augmentation, index and the three sources."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kexue_pl.data.base import DataModule
from kexue_pl.data.keyed_pairs import KeyedPairs
from kexue_pl.data.kgclue import KgCLUE
from kexue_pl.data.questions import QuestionData
from kexue_pl.data.world import load_facts
from kexue_pl.data.world_questions import WorldQuestions
from kexue_pl.models.tokenizers import train_tokenizer
from kexue_pl.retrieval import IndexFileError


def ready(data: QuestionData) -> Any:
    data.setup("fit")
    data.tokenizer = train_tokenizer(data.texts(), min_frequency=1)
    return data


@pytest.fixture(scope="module")
def world() -> Any:
    return ready(WorldQuestions(per_fact=1))


def row(question: str, *key: str, number: int = 0) -> dict[str, Any]:
    return {
        "question": question,
        "key": key,
        "value": "",
        "row_id": number,
        "epoch": 0,
        "train": True,
    }


def test_layout_of_the_article(world: Any) -> None:
    world.swap = world.noise = 0.0
    tokens = world.tokenizer
    batch = world.collate(
        [row("氢是什么", "氢", "元素符号", ""), row("氦", "氦", "元", "化", number=5)]
    )
    texts = [
        tokens.convert_ids_to_tokens(ids[mask.bool()])
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    first = ["[CLS]", *"氢是什么", "[SEP]", "氢", "[SEP]", *"元素符号", "[SEP]", "[SEP]"]
    assert texts[0] == first
    assert texts[1] == ["[CLS]", "氦", "[SEP]", "氦", "[SEP]", "元", "[SEP]", "化", "[SEP]"]
    assert batch["segment"][0].tolist() == [0] * 6 + [1] * 8
    assert batch["segment"][1].tolist() == [0] * 3 + [1] * 6 + [0] * 5
    assert batch["row_id"].tolist() == [0, 5]


def test_long_questions_and_rows_are_cut(world: Any) -> None:
    world.swap = world.noise = 0.0
    batch = world.collate([row("氢" * 300, "氢", "元", "")])
    assert batch["segment"][0].eq(0).sum() == world.max_question + 2
    batch = world.collate([row("氢" * 300, "氢" * 300, "元", "")])
    assert batch["input_ids"].shape == (1, world.max_length)


def test_swap_changes_name_in_question_and_key_alike_and_only_in_training(world: Any) -> None:
    world.swap, world.noise = 1.0, 0.0
    source = {**world.train_set[0], "row_id": 0, "epoch": 0}
    swapped = [world._augmented({**source, "epoch": e}) for e in range(8)]
    assert len({s["key"][0] for s in swapped}) > 4
    for s in swapped:
        assert s["key"][0] in s["question"] and s["key"][1:] == source["key"][1:]
    assert swapped == [world._augmented({**source, "epoch": e}) for e in range(8)]
    valid = {**world.valid_set[0], "row_id": 0, "epoch": 0}
    assert world._augmented(valid) == valid
    world.swap = world.noise = 0.0
    assert world._augmented(source) == source
    world.noise = 0.5
    noisy = [world._augmented({**source, "epoch": e}) for e in range(20)]
    assert len({n["question"] for n in noisy}) > 10
    assert all(n["key"] == source["key"] and n["key"][0] in n["question"] for n in noisy)
    world.noise = 0.0


def test_shared_characters_are_renamed_in_question_and_key_alike(world: Any) -> None:
    world.swap, world.noise, world.rename = 0.0, 0.0, 1.0
    source = {**world.train_set[0], "row_id": 0, "epoch": 0, "key": ("氢", "原子量", "元素")}
    source["question"] = "氢的原子量是多少"
    seen = set()
    for epoch in range(8):
        new = world._augmented({**source, "epoch": epoch})
        name, predicate, meaning = new["key"]
        assert (name, meaning) == ("氢", "元素") and len(set(predicate)) == 3
        assert new["question"] == f"氢的{predicate}是多少"
        seen.add(predicate)
    assert len(seen) > 4
    part = world._augmented({**source, "question": "氢有多大的量"})
    assert part["key"][1][:2] == "原子" and part["question"] == f"氢有多大的{part['key'][1][2]}"
    other = {**source, "question": "氢多重"}
    assert world._augmented(other) == {**other, "key": source["key"]}
    world.swap = world.noise = world.rename = 0.0
    with pytest.raises(ValueError, match=r"data.rename=2"):
        WorldQuestions(rename=2)


def test_world_index_answers_every_fact(world: Any) -> None:
    index = world.make_index()
    assert len(index) == len(load_facts()) == len(world.base)
    sep = index.separator
    for key, value in world.base[:200]:
        parts = world.encode(list(key))
        tokens = [t for k in range(3) for t in [*parts[k], sep]]
        assert value in index.values(tokens)
        lo, _ = index.lookup([tokens[:-1]])
        assert index.texts(int(lo[0])) == key


def test_keys_are_unique_and_test_entities_new(world: Any) -> None:
    keys = [key for key, _ in world.base]
    assert len(set(keys)) == len(keys)
    train, test = ({r["key"][0] for r in rows} for rows in (world.train_set, world.test_set))
    assert test and not train & test


def test_batches_hold_the_rows_of_the_plain_order_with_less_padding(world: Any) -> None:
    lengths = world._lengths()
    waste = {}
    for name, batches in (
        ("grouped", world.train_batches(1)),
        ("plain", DataModule.train_batches(world, 1)),
    ):
        waste[name] = sum(max(lengths[i] for i in b) * len(b) for b in batches)
        waste[name] -= sum(lengths[i] for b in batches for i in b)
        waste[f"{name} rows"] = sorted(i for b in batches for i in b)
        assert {len(b) for b in batches} == {world.batch_size}
    assert waste["grouped rows"] == waste["plain rows"]
    assert waste["grouped"] < 0.5 * waste["plain"]
    assert world.train_batches(1) == world.train_batches(1) != world.train_batches(2)
    shortest = [min(lengths[i] for i in b) for b in world.train_batches(1)]
    assert shortest != sorted(shortest)


def question_files(folder: Path) -> tuple[str, str]:
    paths = []
    for name, count in (("train", 30), ("valid", 10)):
        rows = [
            {"id": i, "question": f"问{name}{i}的价", "answer": f"{name}{i} ||| 价{i % 7} ||| {i}"}
            for i in range(count)
        ]
        path = folder / f"{name}.json"
        path.write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in rows), "utf-8")
        paths.append(str(path))
    return paths[0], paths[1]


@pytest.mark.parametrize("base", ["qa", "rich", "hard", "rich_unseen", "hard_unseen"])
def test_kgclue_files_and_bases(tmp_path: Path, base: str) -> None:
    train, valid = question_files(tmp_path)
    data = ready(KgCLUE(train=train, valid=valid, base=base, valid_rows=4, limit=20))
    sizes = len(data.train_set), len(data.valid_set), len(data.test_set)
    assert sizes == (20, 4, 10)
    keys = {key for key, _ in data.base}
    assert all(r["key"] in keys for r in (*data.train_set, *data.test_set))
    if base.endswith("unseen"):
        asked = {r["key"][1] for r in data.test_set}
        own = {r["key"][0] for r in data.test_set}
        assert {key[1] for key in keys if key[0] in own} <= asked


def test_held_out_predicates_are_never_trained_on(tmp_path: Path) -> None:
    train, valid = question_files(tmp_path)
    data = ready(KgCLUE(train=train, valid=valid, base="rich", held_out=0.3))
    trained, tuned = ({r["key"][1] for r in rows} for rows in (data.train_set, data.tune_set))
    assert len(tuned) == 2 and len(trained) == 5 and not trained & tuned
    assert len(data.train_set) + len(data.tune_set) == 30
    keys = {key for key, _ in data.base}
    assert all(r["key"] in keys and not r["train"] for r in data.tune_set)
    less = ready(KgCLUE(train=train, valid=valid, held_out=0.3, tune_rows=3))
    assert less.tune_set == data.tune_set[:3]
    other = ready(KgCLUE(train=train, valid=valid, held_out=0.3, seed=1))
    assert {r["key"][1] for r in other.tune_set} != tuned
    assert not ready(KgCLUE(train=train, valid=valid, held_out=0)).tune_set
    unseen = ready(KgCLUE(train=train, valid=valid, base="rich_unseen", held_out=0.3))
    own = {r["key"][0] for r in unseen.tune_set}
    assert {key[1] for key, _ in unseen.base if key[0] in own} <= tuned


def test_kgclue_resplit_stored_index_and_triples(tmp_path: Path) -> None:
    train, valid = question_files(tmp_path)
    data = ready(KgCLUE(train=train, valid=valid, base="qa", resplit=True))
    assert any(r["key"][0].startswith("train") for r in data.test_set)
    index = data.make_index()
    index.save(tmp_path / "index")
    stored = KgCLUE(train=train, valid=valid, index=str(tmp_path / "index"))
    stored.setup("fit")
    stored.tokenizer = data.tokenizer
    assert len(stored.make_index()) == len(index)
    stored.tokenizer = train_tokenizer(["别"], min_frequency=1)
    with pytest.raises(IndexFileError, match="with the model's tokenizer"):
        stored.make_index()
    triples = tmp_path / "base.tsv"
    triples.write_text("甲（乙）\t丙\t丁\n", encoding="utf-8")
    real = ready(KgCLUE(train=train, valid=valid, triples=str(triples)))
    assert real.base == [(("甲", "丙", "乙"), "丁")]


def test_kgclue_faults_name_the_key() -> None:
    with pytest.raises(ValueError, match=r"data.base='easy': accepted are qa, rich, hard"):
        KgCLUE(train="a", valid="b", base="easy")
    with pytest.raises(ValueError, match=r"data.train=a: no such file"):
        KgCLUE(train="a", valid="b").setup("fit")
    with pytest.raises(ValueError, match=r"data.held_out=1.0: a share from 0 to below 1"):
        KgCLUE(train="a", valid="b", held_out=1.0)
    with pytest.raises(ValueError, match=r"data.swap=2"):
        WorldQuestions(swap=2)


def test_keyed_pairs_are_flat(tmp_path: Path) -> None:
    for name, rows in (("train", "找甲\t甲\n找乙\t乙\n"), ("valid", "要丙\t丙\n")):
        (tmp_path / f"{name}.tsv").write_text(rows, encoding="utf-8")
    train, valid = str(tmp_path / "train.tsv"), str(tmp_path / "valid.tsv")
    data = ready(KeyedPairs(train=train, valid=valid))
    index = data.make_index()
    assert index.segments == 1 and len(index) == 3
    keys = tmp_path / "keys.txt"
    keys.write_text("甲\n乙\n丙\n丁\n", encoding="utf-8")
    assert len(ready(KeyedPairs(train=train, valid=valid, keys=str(keys))).base) == 4
    batch = data.collate([{**data.train_set[0], "row_id": 0, "epoch": 0}])
    tokens = data.tokenizer.convert_ids_to_tokens(batch["input_ids"][0])
    assert tokens == ["[CLS]", "找", "甲", "[SEP]", "甲", "[SEP]"]
