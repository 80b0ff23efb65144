"""The protocol: every loss keeps it, and says clearly what it cannot use."""

from __future__ import annotations

import pytest
import torch

from kexue_pl import losses
from kexue_pl.losses import Loss, PairOutputs, check_interaction

ALL = {
    name: getattr(losses, name)
    for name in losses.__all__
    if isinstance(getattr(losses, name), type) and issubclass(getattr(losses, name), Loss)
}
MADE = {
    name: make(losses.CoSENT()) if name == "Matryoshka" else make()
    for name, make in ALL.items()
    if name != "Loss"
}


def outputs_for(loss: Loss, rows: int = 6, dtype: torch.dtype = torch.float64) -> PairOutputs:
    g = torch.Generator().manual_seed(0)
    if loss.kind == "logits":
        return PairOutputs(logits=torch.randn(rows, loss.outputs, generator=g, dtype=dtype))
    left, right = torch.randn(2, rows, 8, generator=g, dtype=dtype)
    return PairOutputs(left=left, right=right)


@pytest.mark.parametrize("name", list(MADE))
def test_keeps_the_protocol(name):
    loss = MADE[name]
    loss.prepare(8)
    loss.double()
    outputs, labels = outputs_for(loss), torch.tensor([0, 1, 0, 1, 1, 0])
    value = loss(outputs, labels)
    assert value.ndim == 0
    assert value.isfinite()
    assert loss.score(outputs).shape == (6,)
    assert torch.equal(loss(loss.compact(outputs), labels), value)
    assert loss.kind in ("scores", "embeddings", "logits")
    assert loss.data
    for tensor in outputs.tensors().values():
        tensor.requires_grad_()
    values = list(outputs.tensors().values())

    def of(*tensors):
        return loss(PairOutputs(**dict(zip(outputs.tensors(), tensors))), labels)

    assert torch.autograd.gradcheck(of, values)


@pytest.mark.parametrize("name", list(MADE))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_outputs(name, dtype):
    loss = MADE[name]
    loss.prepare(8)
    loss.float()
    half, labels = outputs_for(loss, dtype=dtype), torch.tensor([0, 1, 0, 1, 1, 0])
    assert loss(half, labels).dtype == torch.float32
    assert torch.equal(loss(half, labels), loss(half.full_precision(), labels))
    assert loss.score(half).dtype == torch.float32


@pytest.mark.parametrize("name", sorted(set(MADE) - {"SimCSE", "Triplet", "InfoNCE"}))
def test_missing_labels_are_named(name):
    with pytest.raises(ValueError, match=r"needs a label for each pair; .*loss=simcse"):
        MADE[name](outputs_for(MADE[name]))


BINARY = ["Contrastive", "OnlineContrastive", "Triplet", "InfoNCE", "BCE"]


@pytest.mark.parametrize("name", BINARY)
def test_graded_labels_to_a_binary_loss(name):
    outputs = outputs_for(MADE[name], 3)
    with pytest.raises(ValueError, match=r"label 4 in row \d of the batch.*loss.positive_from"):
        MADE[name](outputs, torch.tensor([0, 1, 4]))
    graded = ALL[name](positive_from=3)
    torch.testing.assert_close(
        graded(outputs, torch.tensor([0, 1, 4])), MADE[name](outputs, torch.tensor([0, 0, 1]))
    )


@pytest.mark.parametrize("name", ["Softmax", "SBERTSoftmax"])
def test_class_beyond_the_head(name):
    with pytest.raises(ValueError, match=r"label 2 in row 1 .* whole numbers 0..1.*loss.classes"):
        MADE[name](outputs_for(MADE[name], 2), torch.tensor([0, 2]))
    with pytest.raises(ValueError, match=r"label 0.5 in row 0"):
        MADE[name](outputs_for(MADE[name], 2), torch.tensor([0.5, 1]))


@pytest.mark.parametrize("name", ["InfoNCE", "SimCSE", "Triplet"])
def test_a_batch_of_one(name):
    with pytest.raises(ValueError, match=r"a batch of one pair .*data.batch_size to 2"):
        MADE[name](outputs_for(MADE[name], 1))


def test_number_of_labels():
    with pytest.raises(ValueError, match=r"labels of shape \(3,\) for 2 pairs"):
        MADE["CoSENT"](PairOutputs(scores=torch.zeros(2)), torch.zeros(3))


@pytest.mark.parametrize("name", list(MADE))
def test_a_model_that_gives_something_else(name):
    loss = MADE[name]
    if loss.kind == "scores":
        for interaction in ("bi", "late", "cross"):
            check_interaction(loss, interaction)
        return
    wrong = "cross" if loss.kind == "embeddings" else "bi"
    with pytest.raises(ValueError, match=rf"model.interaction={wrong} does not give"):
        check_interaction(loss, wrong)
    other = (
        PairOutputs(logits=torch.zeros(2, 5))
        if wrong == "cross"
        else PairOutputs(left=torch.zeros(2, 3), right=torch.zeros(2, 3))
    )
    with pytest.raises(ValueError, match=r"reads|embeddings"):
        loss(other, torch.tensor([0, 1]))


def test_cat_and_rows():
    a = PairOutputs(left=torch.zeros(2, 3), right=torch.zeros(2, 3))
    b = PairOutputs(left=torch.ones(1, 3), right=torch.ones(1, 3))
    whole = PairOutputs.cat([a, b])
    assert whole.rows() == 3
    assert whole.left[:, 0].tolist() == [0, 0, 1]
    assert whole.negatives is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: losses.Distillation(target="soft"),
            "loss.target='soft'; choose one of score, margin",
        ),
        (lambda: losses.Distillation(similarity="l2"), "choose one of cosine, dot"),
        (lambda: losses.Softmax(classes=1), "loss.classes=1"),
        (lambda: losses.SBERTSoftmax(classes=0), "loss.classes=0"),
        (lambda: losses.CosineMSE(label_max=0), "loss.label_max=0"),
        (lambda: losses.Contrastive(margin=0), "loss.margin=0"),
    ],
)
def test_settings_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()
