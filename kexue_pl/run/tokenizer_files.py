"""A tokenizer as primitives: its files as byte tensors, so that a checkpoint carries its own."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["pack", "unpack"]


def pack(tokenizer: Any) -> dict[str, Tensor]:
    """The files that `save_pretrained` writes, as uint8 tensors by name; {} for None."""
    if tokenizer is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        files = sorted(path for path in Path(folder).iterdir() if path.is_file())
        return {
            path.name: torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
            for path in files
        }


def unpack(files: dict[str, Tensor]) -> Any:
    """The tokenizer that `pack` stored; None for {}.

    Raises:
        ValueError: a file name that would leave the folder.
    """
    if not files:
        return None
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            if Path(name).name != name:
                raise ValueError(f"tokenizer file {name!r}: must be a plain name")
            (Path(folder) / name).write_bytes(content.numpy().tobytes())
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
