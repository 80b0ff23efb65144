"""Gradient penalties (article 8796) and their relatives, each around the closure of the loss."""

from __future__ import annotations

from kexue_pl.penalties.base import Closure, Penalty
from kexue_pl.penalties.bound import (
    GradientBound,
    gradient_penalty_bound,
    gradient_penalty_bounds,
)
from kexue_pl.penalties.closed_form import per_sample_square_norms, recorded_calls
from kexue_pl.penalties.double_backward import check_twice_differentiable, math_attention
from kexue_pl.penalties.fgm import FGM
from kexue_pl.penalties.flooding import Flooding
from kexue_pl.penalties.input_gradient import InputGradient, input_gradient_penalty
from kexue_pl.penalties.outputs import listening, record_output, recorded_outputs
from kexue_pl.penalties.parameter_gradient import ParameterGradient, parameter_gradient_penalty
from kexue_pl.penalties.pgd import PGD
from kexue_pl.penalties.sam import SAM
from kexue_pl.penalties.vat import VAT

__all__ = [
    "FGM",
    "PGD",
    "SAM",
    "VAT",
    "Closure",
    "Flooding",
    "GradientBound",
    "InputGradient",
    "ParameterGradient",
    "Penalty",
    "check_twice_differentiable",
    "gradient_penalty_bound",
    "gradient_penalty_bounds",
    "input_gradient_penalty",
    "math_attention",
    "parameter_gradient_penalty",
    "per_sample_square_norms",
    "listening",
    "record_output",
    "recorded_calls",
    "recorded_outputs",
]
