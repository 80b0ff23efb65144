"""Callbacks, one concept a file."""

from __future__ import annotations

from kexue_pl.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from kexue_pl.callbacks.eg_step_size import EGStepSize
from kexue_pl.callbacks.nonfinite_guard import NonfiniteGuard
from kexue_pl.callbacks.spike import Spike

__all__ = ["BestCheckpoint", "EGStepSize", "LastCheckpoint", "NonfiniteGuard", "Spike"]
