"""RoFormer checkpoints on a BERT body, so that attention scalings reach them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from kexue_pl.attention.positions import RoPE
from kexue_pl.attention.register import apply_attention, attach
from kexue_pl.attention.scaling import Scaling
from kexue_pl.attention.standard import Standard

if TYPE_CHECKING:
    from transformers import (
        BertConfig,
        BertForMaskedLM,
        BertModel,
        PreTrainedModel,
        RoFormerConfig,
        RoFormerForMaskedLM,
    )


def roformer_to_bert(
    roformer: RoFormerForMaskedLM,
    scaling: Scaling | None = None,
    *,
    max_length: int | None = None,
) -> BertForMaskedLM:
    """``BertForMaskedLM`` with the weights of a RoFormer and rotary positions inside its attention.

    transformers' RoFormer has an eager attention of its own that no registered function reaches,
    and which adds boolean masks to its scores. The copy gives the same logits to about 1e-6.

    Args:
        roformer: the model, kexue.fm/archives/8265.
        scaling: rule of the logits; None = the plain one.
        max_length: longest input of the copy, in tokens; None = the model's own limit.

    Raises:
        ValueError: for factorised embeddings (embedding_size != hidden_size) or rotary values,
            which BERT cannot hold.
    """
    from transformers import BertForMaskedLM

    config = bert_config(roformer.config)
    if max_length is not None:
        config.max_position_embeddings = max_length
    apply_attention(config, scaling if scaling is not None else Standard(), RoPE())
    bert: BertForMaskedLM = BertForMaskedLM(config)
    attach(bert)
    copy_weights(roformer, bert)
    zero_positions(bert.bert)
    return bert.eval()


def bert_config(old: RoFormerConfig) -> BertConfig:
    """Configuration of a BERT that can hold the weights of a RoFormer.

    Raises:
        ValueError: see :func:`roformer_to_bert`.
    """
    from transformers import BertConfig

    if old.embedding_size != old.hidden_size or old.rotary_value:
        raise ValueError(
            f"roformer_to_bert: embedding_size={old.embedding_size}, "
            f"hidden_size={old.hidden_size}, rotary_value={old.rotary_value}; only equal sizes "
            "without rotary values fit a BERT body"
        )
    return BertConfig(
        vocab_size=old.vocab_size,
        hidden_size=old.hidden_size,
        num_hidden_layers=old.num_hidden_layers,
        num_attention_heads=old.num_attention_heads,
        intermediate_size=old.intermediate_size,
        hidden_act=old.hidden_act,
        hidden_dropout_prob=old.hidden_dropout_prob,
        attention_probs_dropout_prob=old.attention_probs_dropout_prob,
        max_position_embeddings=old.max_position_embeddings,
        type_vocab_size=old.type_vocab_size,
        layer_norm_eps=old.layer_norm_eps,
        pad_token_id=old.pad_token_id,
    )


def copy_weights(roformer: PreTrainedModel, bert: PreTrainedModel) -> None:
    """Weights of a RoFormer into a BERT of the same kind, whose table of positions is left.

    Raises:
        ValueError: weights that the BERT has no place for.
    """
    state = {
        name.replace("roformer.", "bert."): value
        for name, value in roformer.state_dict().items()
        if "embed_positions" not in name
    }
    fresh = bert.load_state_dict(state, strict=False)
    if fresh.unexpected_keys:
        raise ValueError(f"roformer_to_bert: weights without a place: {fresh.unexpected_keys}")


def zero_positions(bert: BertModel) -> None:
    """Take away BERT's learned positions: its table becomes zeros and is not trained."""
    table = bert.embeddings.position_embeddings.weight
    with torch.no_grad():
        table.zero_()
    table.requires_grad_(False)
