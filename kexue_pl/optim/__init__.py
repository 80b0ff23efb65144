"""Optimizers and step sizes that learn (article 8968); nothing here needs Lightning."""

from __future__ import annotations

from kexue_pl.optim.attached import AttachedStepSize
from kexue_pl.optim.eg_step_size import EGStepSize
from kexue_pl.optim.egd import EGD
from kexue_pl.optim.rates import meta_rate

__all__ = ["EGD", "AttachedStepSize", "EGStepSize", "meta_rate"]
