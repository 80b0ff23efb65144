"""Tiny random transformers models whose attention is far from uniform."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf

SIZE: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
NONE = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
MODERN: dict[str, Any] = {
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "cls_token_id": 1,
    "sep_token_id": 2,
    "local_attention": 8,
    "global_attn_every_n_layers": 2,
}
T5: dict[str, Any] = {
    "vocab_size": 50, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4
}  # fmt: skip
GROUPED = {**SIZE, "num_key_value_heads": 2, **NONE}
MODELS: dict[str, Any] = {
    "bert": (hf.BertModel, lambda: hf.BertConfig(**SIZE)),
    "modernbert": (hf.ModernBertModel, lambda: hf.ModernBertConfig(**SIZE, **MODERN)),
    "nomic_bert": (hf.NomicBertModel, lambda: hf.NomicBertConfig(**SIZE)),
    "esm": (hf.EsmModel, lambda: hf.EsmConfig(**SIZE, pad_token_id=0, mask_token_id=1)),
    "t5": (hf.T5EncoderModel, lambda: hf.T5Config(**T5)),
    "qwen2": (hf.Qwen2Model, lambda: hf.Qwen2Config(**GROUPED)),
    "llama": (hf.LlamaModel, lambda: hf.LlamaConfig(**GROUPED)),
    "qwen2_lm": (hf.Qwen2ForCausalLM, lambda: hf.Qwen2Config(**GROUPED)),
    "llama_lm": (hf.LlamaForCausalLM, lambda: hf.LlamaConfig(**GROUPED)),
}
ENCODERS = ("bert", "modernbert", "nomic_bert", "esm", "t5")


def loud(model: Any) -> Any:
    """The usual init of 0.02 makes attention nearly uniform and hides mistakes: enlarge it."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    return model.eval()


def build(kind: str, attention: str) -> Any:
    """A loud tiny model of a kind with an attention implementation, the same weights every time."""
    make, config = MODELS[kind]
    torch.manual_seed(0)
    return loud(make._from_config(config(), attn_implementation=attention))


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids (2, 16) and a padding mask whose second row ends after ten tokens."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 50, (2, 16), generator=generator)
    padding = torch.ones(2, 16, dtype=torch.long)
    padding[1, 10:] = 0
    return ids, padding


def unilm(padding: torch.Tensor, source: int) -> torch.Tensor:
    """UniLM mask (B, 1, n, n): the source sees itself, the target also what precedes it."""
    types = torch.zeros_like(padding)
    types[:, source:] = 1
    order = types.cumsum(1)
    seen = order[:, None, :] <= order[:, :, None]
    return seen[:, None] & padding[:, None, None, :].bool()
