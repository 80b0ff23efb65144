"""Attention scalings for any transformers model: one function, twelve rules, five kinds of
positions.

Article: kexue.fm/archives/8823. Three lines put a scaling into a model::

    from kexue_pl.attention import EntropyInvariant, register
    register("entropy_invariant", EntropyInvariant())
    model = AutoModel.from_pretrained(folder, attn_implementation="entropy_invariant")
"""

from kexue_pl.attention.calibrated import Calibrated, calibrate
from kexue_pl.attention.entropy import attention_entropy, mean_entropy, valid_rows
from kexue_pl.attention.entropy_invariant import EntropyInvariant
from kexue_pl.attention.function import Call, ScaledAttention
from kexue_pl.attention.kappa import Kappa
from kexue_pl.attention.key_norm import KeyNorm
from kexue_pl.attention.logn_clipped import LogNClipped
from kexue_pl.attention.mup import MuP
from kexue_pl.attention.natural_log import NaturalLog
from kexue_pl.attention.positions import NTK, ALiBi, Positions, ReRoPE, RoPE
from kexue_pl.attention.probe import EntropyProbe, log_slope
from kexue_pl.attention.qk_norm import QKNorm
from kexue_pl.attention.register import (
    apply_attention,
    attach,
    guard,
    install,
    observing,
    register,
    registered,
)
from kexue_pl.attention.roformer import roformer_to_bert, zero_positions
from kexue_pl.attention.scaling import Scaling
from kexue_pl.attention.sqrt_log import SqrtLog
from kexue_pl.attention.ssmax import SSMax
from kexue_pl.attention.standard import Standard
from kexue_pl.attention.visible import count_visible, visible_mask
from kexue_pl.attention.yarn import YaRN

__all__ = [
    "NTK",
    "ALiBi",
    "Calibrated",
    "Call",
    "EntropyInvariant",
    "EntropyProbe",
    "Kappa",
    "KeyNorm",
    "LogNClipped",
    "MuP",
    "NaturalLog",
    "Positions",
    "QKNorm",
    "ReRoPE",
    "RoPE",
    "SSMax",
    "ScaledAttention",
    "Scaling",
    "SqrtLog",
    "Standard",
    "YaRN",
    "apply_attention",
    "attach",
    "attention_entropy",
    "calibrate",
    "count_visible",
    "guard",
    "install",
    "log_slope",
    "mean_entropy",
    "observing",
    "register",
    "registered",
    "roformer_to_bert",
    "valid_rows",
    "visible_mask",
    "zero_positions",
]
