"""Balancing rules for multi-task learning: articles 8870, 8896, 8907 and the field.

Each rule maps a T x T Gram matrix of task gradients and T losses to T weights:
``rule.weights(gram, losses)``. Where the gradients come from is :mod:`kexue_pl.gradients`.
"""

from __future__ import annotations

from kexue_pl.balancers.aligned import Aligned
from kexue_pl.balancers.base import Balancer
from kexue_pl.balancers.cagrad import CAGrad
from kexue_pl.balancers.config import ConFIG
from kexue_pl.balancers.constant import Constant
from kexue_pl.balancers.db_mtl import DBMTL
from kexue_pl.balancers.dualproj import DualProj
from kexue_pl.balancers.dwa import DWA
from kexue_pl.balancers.ema import EMA
from kexue_pl.balancers.equal import Equal
from kexue_pl.balancers.fairgrad import FairGrad
from kexue_pl.balancers.famo import FAMO
from kexue_pl.balancers.generalized_mean import GeneralizedMean
from kexue_pl.balancers.geometric import Geometric
from kexue_pl.balancers.graddrop import GradDrop
from kexue_pl.balancers.gradnorm import GradNorm
from kexue_pl.balancers.gradvac import GradVac
from kexue_pl.balancers.imtl_g import IMTLG
from kexue_pl.balancers.imtl_l import IMTLL
from kexue_pl.balancers.initial import Initial, uniform_loss
from kexue_pl.balancers.inverse_grad_norm import InverseGradNorm
from kexue_pl.balancers.mgda import MGDA
from kexue_pl.balancers.min_norm import frank_wolfe, min_norm, pair_min_norm, relative_gap
from kexue_pl.balancers.nash import Nash
from kexue_pl.balancers.pcgrad import PCGrad
from kexue_pl.balancers.primary import Primary
from kexue_pl.balancers.prior import Prior, entropy, variance
from kexue_pl.balancers.realtime import RealTime
from kexue_pl.balancers.rlw import RLW
from kexue_pl.balancers.scheduled import Scheduled
from kexue_pl.balancers.smooth_min import SmoothMin
from kexue_pl.balancers.stch import STCH
from kexue_pl.balancers.torchjd import TorchJD
from kexue_pl.balancers.uncertainty import Uncertainty
from kexue_pl.balancers.upgrad import UPGrad

__all__ = [
    "CAGrad",
    "DBMTL",
    "DWA",
    "EMA",
    "FAMO",
    "IMTLG",
    "IMTLL",
    "MGDA",
    "RLW",
    "STCH",
    "Aligned",
    "Balancer",
    "ConFIG",
    "Constant",
    "DualProj",
    "Equal",
    "FairGrad",
    "GeneralizedMean",
    "Geometric",
    "GradDrop",
    "GradNorm",
    "GradVac",
    "Initial",
    "InverseGradNorm",
    "Nash",
    "PCGrad",
    "Primary",
    "Prior",
    "RealTime",
    "Scheduled",
    "SmoothMin",
    "TorchJD",
    "UPGrad",
    "Uncertainty",
    "entropy",
    "frank_wolfe",
    "min_norm",
    "pair_min_norm",
    "relative_gap",
    "uniform_loss",
    "variance",
]
