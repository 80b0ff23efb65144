"""Values and gradients of sentence-transformers' losses, which were written independently."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from kexue_pl.losses import (
    AnglE,
    Contrastive,
    CoSENT,
    CosineMSE,
    Distillation,
    InfoNCE,
    OnlineContrastive,
    PairOutputs,
    Triplet,
)

ROWS, WIDTH = 16, 7


@pytest.fixture(scope="module")
def peers():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("sentence_transformers.sentence_transformer.losses")


def cases(peers):
    dummy, distance = nn.Identity(), peers.SiameseDistanceMetric
    mnrl, directions = peers.MultipleNegativesRankingLoss, ("query_to_doc", "doc_to_query")
    return {
        "cosent": (CoSENT(20.0), peers.CoSENTLoss(dummy), "grades", 0),
        "angle": (AnglE(20.0), peers.AnglELoss(dummy), "grades", 0),
        "cosine_mse": (CosineMSE(), peers.CosineSimilarityLoss(dummy), "binary", 0),
        "contrastive": (Contrastive(), peers.ContrastiveLoss(dummy), "binary", 0),
        "contrastive_euclidean": (
            Contrastive(margin=3.0, distance="euclidean"),
            peers.ContrastiveLoss(dummy, distance.EUCLIDEAN, margin=3.0),
            "binary",
            0,
        ),
        "online": (OnlineContrastive(), peers.OnlineContrastiveLoss(dummy), "binary", 0),
        "triplet": (
            Triplet(margin=5.0, distance="euclidean"),
            peers.TripletLoss(dummy),
            "none",
            1,
        ),
        "info_nce": (InfoNCE(20.0), mnrl(dummy), "none", 0),
        "info_nce_negatives": (InfoNCE(20.0), mnrl(dummy), "none", 2),
        "info_nce_symmetric": (
            InfoNCE(10.0, symmetric=True),
            mnrl(dummy, 10.0, directions=directions, partition_mode="per_direction"),
            "none",
            0,
        ),
        "margin_mse": (
            Distillation(target="margin", similarity="dot"),
            peers.MarginMSELoss(dummy),
            "teacher",
            2,
        ),
    }


@pytest.mark.parametrize(
    "name",
    [
        "cosent",
        "angle",
        "cosine_mse",
        "contrastive",
        "contrastive_euclidean",
        "online",
        "triplet",
        "info_nce",
        "info_nce_negatives",
        "info_nce_symmetric",
        "margin_mse",
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_the_peer(peers, name, seed):
    ours, theirs, kind, negatives = cases(peers)[name]
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(2 + negatives, ROWS, WIDTH, generator=g).requires_grad_()
    labels = {
        "grades": torch.randint(0, 5, (ROWS,), generator=g),
        "binary": torch.randint(0, 2, (ROWS,), generator=g),
        "teacher": torch.randn(ROWS, max(1, negatives), generator=g),
        "none": None,
    }[kind]
    outputs = PairOutputs(left=x[0], right=x[1])
    if negatives:
        outputs = PairOutputs(left=x[0], right=x[1], negatives=x[2:].transpose(0, 1))
    loss = ours(outputs, labels)
    gradient = torch.autograd.grad(loss, x)[0]
    peer_labels = torch.zeros(ROWS) if labels is None else labels
    if kind == "binary":
        peer_labels = peer_labels.float()
    want = theirs.compute_loss_from_embeddings(list(x), peer_labels)
    torch.testing.assert_close(loss, want, rtol=2e-6, atol=1e-6)
    torch.testing.assert_close(gradient, torch.autograd.grad(want, x)[0], rtol=1e-4, atol=2e-6)
