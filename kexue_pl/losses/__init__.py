"""Matching losses, one a file; `base` documents the protocol they share."""

from kexue_pl.losses.angle import AnglE, angle_similarity
from kexue_pl.losses.base import Loss, PairOutputs, check_interaction
from kexue_pl.losses.bce import BCE
from kexue_pl.losses.cached import cached_loss, split_batch
from kexue_pl.losses.contrastive import Contrastive
from kexue_pl.losses.cosent import CoSENT, cosent_loss
from kexue_pl.losses.cosine_mse import CosineMSE
from kexue_pl.losses.distillation import Distillation
from kexue_pl.losses.info_nce import InfoNCE, info_nce_loss
from kexue_pl.losses.matryoshka import Matryoshka
from kexue_pl.losses.online_contrastive import OnlineContrastive, online_contrastive_loss
from kexue_pl.losses.sbert_softmax import SBERTSoftmax
from kexue_pl.losses.simcse import SimCSE
from kexue_pl.losses.softmax import Softmax
from kexue_pl.losses.triplet import Triplet

__all__ = [
    "BCE",
    "AnglE",
    "CoSENT",
    "Contrastive",
    "CosineMSE",
    "Distillation",
    "InfoNCE",
    "Loss",
    "Matryoshka",
    "OnlineContrastive",
    "PairOutputs",
    "SBERTSoftmax",
    "SimCSE",
    "Softmax",
    "Triplet",
    "angle_similarity",
    "cached_loss",
    "check_interaction",
    "cosent_loss",
    "info_nce_loss",
    "online_contrastive_loss",
    "split_batch",
]
