"""Positions inside the attention function: none, rotary, NTK-aware, rectified, linear."""

from kexue_pl.attention.positions.alibi import ALiBi, alibi_slopes
from kexue_pl.attention.positions.base import Positions
from kexue_pl.attention.positions.ntk import NTK
from kexue_pl.attention.positions.rerope import ReRoPE
from kexue_pl.attention.positions.rope import RoPE, rotary_tables, turn

__all__ = ["NTK", "ALiBi", "Positions", "ReRoPE", "RoPE", "alibi_slopes", "rotary_tables", "turn"]
