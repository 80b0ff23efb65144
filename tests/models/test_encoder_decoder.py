"""Step by step equals teacher forcing for BART and T5."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kexue_pl.attention import EntropyInvariant
from kexue_pl.models.encoder_decoder import EncoderDecoder
from kexue_pl.models.encoder_decoder_model import EncoderDecoderModel

VOCABULARY, SEP = 40, 2


class Tokens:
    pad_token_id, cls_token_id, sep_token_id = 0, 1, SEP

    def __len__(self) -> int:
        return VOCABULARY


def small(kind: str, attention: object = None) -> EncoderDecoderModel:
    torch.manual_seed(0)
    spec = EncoderDecoder(kind=kind, hidden_size=16, layers=1, heads=2, max_length=32, dropout=0)
    model = spec.build(Tokens(), attention=attention).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@torch.no_grad()
def forced(model: EncoderDecoderModel, source: list[int], key: list[int]) -> torch.Tensor:
    ids = torch.tensor([[*source, *key]])
    segment = torch.tensor([[0] * len(source) + [1] * len(key)])
    return model.target_log_p(ids, segment, torch.ones_like(ids))[0]


CASES = [("bart", None), ("t5", None), ("bart", EntropyInvariant(base=8, floor=2))]


@pytest.mark.parametrize(("kind", "attention"), CASES)
def test_steps_equal_teacher_forcing(kind: str, attention: object) -> None:
    model, rng = small(kind, attention), np.random.default_rng(0)
    sizes = [5, 3]
    ids = torch.zeros(2, 5, dtype=torch.long)
    for b, size in enumerate(sizes):
        ids[b, :size] = torch.from_numpy(rng.integers(3, VOCABULARY, size))
    mask = (torch.arange(5) < torch.tensor(sizes)[:, None]).long()
    decoder = model.step_decoder(ids, mask)
    log_p = decoder.start().log_softmax(-1)
    prefixes, question = [[], []], np.arange(2)
    for _ in range(3):
        for b, prefix in enumerate(prefixes):
            source = ids[question[b], : sizes[question[b]]].tolist()
            for token in (3, 20):
                want = forced(model, source, [*prefix, token])[-1]
                assert float(log_p[b, token]) == pytest.approx(float(want), abs=1e-5)
        parent = np.sort(rng.integers(0, len(question), 3))
        token = rng.integers(3, VOCABULARY, 3)
        prefixes = [[*prefixes[p], int(t)] for p, t in zip(parent, token, strict=True)]
        question = question[parent]
        log_p = decoder.step(question, parent, token).log_softmax(-1)


def test_branches_equal_teacher_forcing() -> None:
    model = small("bart")
    sources, prefixes = [[5, 6, 7], [8]], [[9, SEP], [SEP]]
    branches = [[[10, SEP], [SEP]], [[11, 12, SEP]]]
    got = model.branch_log_p(sources, prefixes, branches)
    for source, prefix, found, scores in zip(sources, prefixes, branches, got, strict=True):
        for branch, score in zip(found, scores, strict=True):
            want = forced(model, source, [*prefix, *branch])[len(prefix) :].sum()
            assert score == pytest.approx(float(want), abs=1e-5)


@pytest.mark.parametrize("kind", ["bart", "t5"])
@torch.no_grad()
def test_choices_are_sums_over_what_may_stand_there(kind: str) -> None:
    model = small(kind)
    ids = torch.tensor([[5, 6, 7, 9, SEP], [8, 9, SEP, 0, 0]])
    segment = torch.tensor([[0, 0, 0, 1, 1], [0, 1, 1, 0, 0]])
    mask = torch.tensor([[1] * 5, [1, 1, 1, 0, 0]])
    choices = torch.tensor([[[9, 10], [-1, -1]], [[9, -1], [SEP, 12]]])
    log_p, total = model.choice_log_p(ids, segment, mask, choices)
    assert torch.equal(log_p, model.target_log_p(ids, segment, mask))
    other = ids.clone()
    other[0, 3], other[1, 2] = 10, 12
    beside = model.target_log_p(other, segment, mask)
    want = torch.stack([log_p[0, 0].logaddexp(beside[0, 0]), torch.tensor(0.0),
                        log_p[1, 0], log_p[1, 1].logaddexp(beside[1, 1])]).view(2, 2)  # fmt: skip
    torch.testing.assert_close(total, want, atol=1e-5, rtol=1e-5)


def test_padding_of_rows_changes_nothing() -> None:
    model = small("t5")
    ids = torch.tensor([[5, 6, 7, 9, SEP], [8, 9, SEP, 0, 0]])
    segment = torch.tensor([[0, 0, 0, 1, 1], [0, 1, 1, 0, 0]])
    with torch.no_grad():
        both = model.target_log_p(ids, segment, (ids > 0).long())
    torch.testing.assert_close(both[1], forced(model, [8], [9, SEP]), atol=1e-5, rtol=1e-5)


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match=r"model.kind='gpt': expected one of bart, t5"):
        EncoderDecoder(kind="gpt")
    with pytest.raises(ValueError, match=r"model.heads=4"):
        EncoderDecoder(hidden_size=30)
