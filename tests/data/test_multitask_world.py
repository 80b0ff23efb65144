"""Four text tasks, on one batch or on batches of their own."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from kexue_pl.data.multitask_world import SOURCE, MultitaskWorld
from kexue_pl.data.subtasks import label_key


class Letters:
    """A tokenizer of code points, in the shape the data asks for."""

    all_special_ids = (0, 1)
    mask_token_id = 1

    def __len__(self) -> int:
        return 0x11000

    def __call__(self, texts: list[str], **settings: Any) -> dict[str, torch.Tensor]:
        length = min(max(map(len, texts)), settings["max_length"])
        rows = [[ord(c) for c in text[:length]] for text in texts]
        ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
        return {"input_ids": ids, "attention_mask": (ids > 0).long()}


def made(**settings: Any) -> MultitaskWorld:
    data = MultitaskWorld(**({"train_rows": 400, "valid_rows": 50, "test_rows": 100} | settings))
    data.setup("fit")
    data.tokenizer = Letters()
    return data


def batch_of(data: MultitaskWorld, rows: list[int], epoch: int = 0) -> dict[str, Any]:
    assert data.train_set
    return data.collate([{**data.train_set[i], "row_id": i, "epoch": epoch} for i in rows])


def test_all_tasks_label_the_same_rows() -> None:
    data = made()
    assert data.train_set and data.test_set
    assert [task.name for task in data.subtasks] == ["relation", "kind", "match", "mlm"]
    for row in data.train_set:
        assert 0 <= row["label_relation"] < data.subtasks[0].classes
        assert 0 <= row["label_kind"] < data.subtasks[1].classes
        assert row["label_match"] in (0, 1)
    assert all(-1 <= row["label_relation"] < data.subtasks[0].classes for row in data.test_set)
    assert len(Counter(row["label_kind"] for row in data.train_set)) > 10
    assert not {r["text1"] for r in data.train_set} & {r["text1"] for r in data.test_set}


def test_batch_keeps_the_texts_of_a_row_and_its_labels() -> None:
    data = made(tasks=["relation", "kind", "match"])
    batch = batch_of(data, [0, 1, 2])
    assert batch["input_ids"].shape[:2] == (3, 2) == batch["attention_mask"].shape[:2]
    first = "".join(chr(i) for i in batch["input_ids"][1, 0].tolist() if i)
    assert data.train_set and first == data.train_set[1]["text1"]
    assert batch["label_match"].tolist() == [row["label_match"] for row in data.train_set[:3]]
    assert len(list(data.texts())) == 800


def test_masks_hide_a_third_text_alone_and_tell_what_was_there() -> None:
    data = made(mask_rate=0.3)
    batch = batch_of(data, list(range(8)))
    ids, labels = batch["input_ids"], batch["label_mlm"]
    assert ids.shape[1] == 3 and labels.shape == ids.shape
    hidden = labels >= 0
    assert not bool(hidden[:, :2].any()) and bool(hidden[:, 2].any(1).all())
    assert torch.equal(ids[:, 2][~hidden[:, 2]], ids[:, 0][~hidden[:, 2]])
    assert torch.equal(labels[hidden], ids[:, :1].expand_as(ids)[hidden])
    assert float(hidden[:, 2].sum() / (ids[:, 0] > 0).sum()) == pytest.approx(0.3, abs=0.05)
    assert torch.equal(batch_of(data, list(range(8)))["label_mlm"], labels)
    assert not torch.equal(batch_of(data, list(range(8)), epoch=1)["label_mlm"], labels)
    assert data.test_set
    tested = data.collate([{**data.test_set[0], "row_id": 0, "epoch": 0}])
    at = tested["label_mlm"] >= 0
    assert set(tested["input_ids"][at].tolist()) == {1}


@pytest.mark.parametrize("sampling", ["round_robin", "proportional", "temperature", "joint"])
def test_separate_batches_are_labelled_by_their_owners_alone(sampling: str) -> None:
    data = made(sampling=sampling, source_rows=[200, 60, 40, 60], batch_size=20)
    assert data.train_set and data.disjoint
    owners = Counter(row[SOURCE] for row in data.train_set)
    assert owners == {"relation": 200, "kind": 60, "match": 40, "mlm": 60}
    seen: set[str] = set()
    for rows in data.train_batches(0):
        batch = batch_of(data, rows)
        labelled = {name for name in data.names if bool((batch[label_key(name)] >= 0).any())}
        assert labelled == {data.train_set[i][SOURCE] for i in rows}
        for name in labelled:
            label = batch[label_key(name)]
            mine = torch.tensor([data.train_set[i][SOURCE] == name for i in rows])
            assert torch.equal((label >= 0).reshape(len(rows), -1).any(1), mine)
        seen |= labelled
        assert len(labelled) == (4 if sampling == "joint" else 1)
        if labelled == {"mlm"}:
            assert batch["input_ids"].shape[1] == 1
    assert seen == set(data.names)


def test_misuse_is_named() -> None:
    with pytest.raises(ValueError, match=r"data\.tasks=\['x'\]"):
        MultitaskWorld(tasks=["x"])
    with pytest.raises(ValueError, match=r"data\.sampling='x'"):
        MultitaskWorld(sampling="x")
    with pytest.raises(ValueError, match="source_rows"):
        MultitaskWorld(sampling="joint", source_rows=[1])
    with pytest.raises(ValueError, match=r"data\.mask_rate=1"):
        MultitaskWorld(mask_rate=1)
