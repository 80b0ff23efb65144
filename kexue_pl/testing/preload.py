"""Imported once by the fork server of `Command`, so that each process starts at once."""

from __future__ import annotations

import gc

import datasets  # noqa: F401
import hydra  # noqa: F401
import lightning  # noqa: F401
import matplotlib.figure  # noqa: F401
import scipy.stats  # noqa: F401
import torchmetrics  # noqa: F401
import transformers.models.bert
import transformers.models.esm  # noqa: F401

import kexue_pl.balancers
import kexue_pl.callbacks
import kexue_pl.losses
import kexue_pl.models
import kexue_pl.report.curves
import kexue_pl.run.train
import kexue_pl.tasks.kgclue
import kexue_pl.tasks.matching
import kexue_pl.tasks.mlm
import kexue_pl.tasks.multitask  # noqa: F401

# What is here stays: collecting it again and again in every child would only copy its pages.
gc.collect()
gc.freeze()
