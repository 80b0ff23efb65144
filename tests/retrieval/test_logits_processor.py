"""generate with the adaptor finds what our own search finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kexue_pl.retrieval import PrefixIndex
from kexue_pl.retrieval.beam_search import constrained_beam_search
from kexue_pl.retrieval.logits_processor import PrefixIndexLogitsProcessor, after_segments

SEP, EOS, START = 2, 3, 1
KEYS = [[10, 11, 2, 20, 2], [10, 12, 2, 21, 2], [30, 31, 32, 2, 22, 2, 40], [30, 2, 2]]


@pytest.fixture(scope="module")
def model() -> Any:
    from transformers import BartConfig, BartForConditionalGeneration

    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=50, d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16, decoder_ffn_dim=16,
        pad_token_id=0,
        bos_token_id=START,
        eos_token_id=EOS, decoder_start_token_id=START, forced_eos_token_id=None,
        max_position_embeddings=32, init_std=0.5,
    )  # fmt: skip
    return BartForConditionalGeneration(config).eval()


class Whole:
    """A step decoder that runs the whole prefix again at every step."""

    def __init__(self, model: Any, source: Tensor) -> None:
        self.model, self.source = model, source

    def start(self) -> Tensor:
        self.tokens = np.full((len(self.source), 1), START)
        return self.logits(np.arange(len(self.source)))

    def step(self, question: Any, parent: Any, token: Any) -> Tensor:
        self.tokens = np.concatenate([self.tokens[parent], token[:, None]], axis=1)
        return self.logits(question)

    def logits(self, question: Any) -> Tensor:
        source, target = self.source[torch.from_numpy(question)], torch.from_numpy(self.tokens)
        return self.model(input_ids=source, decoder_input_ids=target).logits[:, -1]


def finite(scores: Tensor) -> list[list[int]]:
    return [row.isfinite().nonzero().flatten().tolist() for row in scores]


@pytest.mark.parametrize("renormalise", [True, False])
def test_generate_equals_our_search(model: Any, renormalise: bool) -> None:
    index = PrefixIndex.build([(k, i) for i, k in enumerate(KEYS)], separator=SEP)
    source = torch.randint(41, 50, (3, 6), generator=torch.Generator().manual_seed(1))
    processor = PrefixIndexLogitsProcessor(index, end=EOS, renormalise=renormalise)
    model.generation_config.eos_token_id = None
    out = model.generate(
        source, num_beams=4, max_new_tokens=10, logits_processor=[processor],
        stopping_criteria=[after_segments(SEP, 3)], return_dict_in_generate=True,
        output_scores=True, **processor.generate_options(),
    )  # fmt: skip
    ours = constrained_beam_search(index, Whole(model, source), 3, beams=4, renormalise=renormalise)
    for row, score, found in zip(out.sequences.tolist(), out.sequences_scores, ours, strict=True):
        key = tuple(t for t in row[1:] if t != 0)
        assert key == found[0].tokens
        assert float(score) == pytest.approx(found[0].score, abs=1e-4)


def test_tokens_outside_the_tree_are_impossible() -> None:
    index = PrefixIndex.build([(k, i) for i, k in enumerate(KEYS)], separator=SEP)
    processor = PrefixIndexLogitsProcessor(index, end=EOS)
    scores = torch.zeros(3, 50)
    ids = torch.tensor([[START, 10], [START, 30], [START, 10]])
    out = processor(ids, scores)
    assert finite(out) == [
        [11, 12],
        [2, 31],
        [11, 12],
    ]
    assert out.exp().sum(-1).tolist() == pytest.approx([1, 1, 1])
    done = torch.tensor([[START, 30, 2, 2, 2, EOS], [START, 10, 11, 2, 20, 2]])
    fresh = PrefixIndexLogitsProcessor(index, end=EOS)
    out = fresh(done, torch.zeros(2, 50))
    assert finite(out) == [[EOS], [SEP]]
