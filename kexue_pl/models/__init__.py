"""Text encoders, poolings, tokenizers and the ways in which two texts meet."""

from __future__ import annotations

from kexue_pl.models.alignment import Alignment
from kexue_pl.models.encoder import Encoder, TransformerEncoder
from kexue_pl.models.encoder_decoder import EncoderDecoder
from kexue_pl.models.interaction import INTERACTIONS, match_types, maxsim
from kexue_pl.models.masked_lm import MaskedLM
from kexue_pl.models.pair_model import PairModel
from kexue_pl.models.pooling import POOLINGS, pool
from kexue_pl.models.pretrained import Pretrained
from kexue_pl.models.pretrained_mlm import PretrainedMLM
from kexue_pl.models.small import Small
from kexue_pl.models.static import Static, StaticEncoder
from kexue_pl.models.tokenizers import train_tokenizer
from kexue_pl.models.unilm import UniLM

__all__ = [
    "INTERACTIONS",
    "POOLINGS",
    "Alignment",
    "Encoder",
    "EncoderDecoder",
    "MaskedLM",
    "PairModel",
    "Pretrained",
    "PretrainedMLM",
    "Small",
    "Static",
    "StaticEncoder",
    "TransformerEncoder",
    "UniLM",
    "match_types",
    "maxsim",
    "pool",
    "train_tokenizer",
]
