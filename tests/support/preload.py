"""Imported once by the fork server of `cli.run`, so that each command of a test starts at once."""

from __future__ import annotations

import datasets  # noqa: F401
import hydra  # noqa: F401
import lightning  # noqa: F401
import matplotlib.figure  # noqa: F401
import scipy.stats  # noqa: F401
import torchmetrics  # noqa: F401
import transformers  # noqa: F401

import kexue_pl.run.train  # noqa: F401
