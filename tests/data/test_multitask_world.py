"""Three text tasks on one batch."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch

from kexue_pl.data.multitask_world import MultitaskWorld


class Letters:
    """A tokenizer of code points, in the shape the data asks for."""

    def __call__(self, texts: list[str], **settings: Any) -> dict[str, torch.Tensor]:
        length = min(max(map(len, texts)), settings["max_length"])
        rows = [[ord(c) for c in text[:length]] for text in texts]
        ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
        return {"input_ids": ids, "attention_mask": (ids > 0).long()}


def made() -> MultitaskWorld:
    data = MultitaskWorld(train_rows=400, valid_rows=50, test_rows=100)
    data.setup("fit")
    return data


def test_all_tasks_label_the_same_rows() -> None:
    data = made()
    assert data.train_set and data.test_set
    assert [task.name for task in data.subtasks] == ["relation", "kind", "match"]
    for row in data.train_set:
        assert 0 <= row["label_relation"] < data.subtasks[0].classes
        assert 0 <= row["label_kind"] < data.subtasks[1].classes
        assert row["label_match"] in (0, 1)
    assert all(-1 <= row["label_relation"] < data.subtasks[0].classes for row in data.test_set)
    assert len(Counter(row["label_kind"] for row in data.train_set)) > 10
    assert not {r["text1"] for r in data.train_set} & {r["text1"] for r in data.test_set}


def test_batch_keeps_two_texts_a_row_and_labels() -> None:
    data = made()
    data.tokenizer = Letters()
    assert data.train_set
    rows = [{**row, "row_id": i, "epoch": 0} for i, row in enumerate(data.train_set[:3])]
    batch = data.collate(rows)
    assert batch["input_ids"].shape[:2] == (3, 2) == batch["attention_mask"].shape[:2]
    first = "".join(chr(i) for i in batch["input_ids"][1, 0].tolist() if i)
    assert first == rows[1]["text1"]
    assert batch["label_match"].tolist() == [row["label_match"] for row in rows]
    assert len(list(data.texts())) == 800
