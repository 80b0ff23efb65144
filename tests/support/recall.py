"""A tiny recall task, for tests of masked language modelling."""

from __future__ import annotations

import functools

import lightning as L
import torch

from kexue_pl.data.recall import Recall
from kexue_pl.models.masked_lm import MaskedLM
from kexue_pl.tasks.mlm import MLMTask

ADAM = functools.partial(torch.optim.AdamW, lr=3e-3)


def tiny_recall(attention=None, **settings):
    L.seed_everything(0, verbose=False)
    data = Recall(
        train_length=16, eval_lengths=[16, 32, 64], keys=32, values=4, rows=256, test_tokens=256,
        batch_size=16, **settings,
    )  # fmt: skip
    data.setup("fit")
    task = MLMTask(
        data=data,
        model=MaskedLM(hidden_size=16, layers=2, heads=2),
        attention=attention,
        optimizer=ADAM,
    )
    return data, task
