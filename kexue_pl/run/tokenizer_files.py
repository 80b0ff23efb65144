"""A tokenizer as primitives: its files as byte tensors, so that a checkpoint carries its own."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["pack", "unpack"]

_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


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
        ValueError: a file name that would leave the folder, files that are no tokenizer, one without
            words.
    """
    if not files:
        return None
    from transformers import AutoTokenizer

    from kexue_pl.models.loading import load_pretrained

    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            if not _PLAIN.fullmatch(name):
                raise ValueError(f"tokenizer file {name!r}: must be a plain name")
            (Path(folder) / name).write_bytes(content.numpy().tobytes())
        try:
            found = load_pretrained(AutoTokenizer, folder)
        except ValueError as error:
            reason = (str(error.__cause__).strip() or "damaged files").splitlines()[0]
            names = ", ".join(sorted(files))
            raise ValueError(
                f"the tokenizer in the checkpoint cannot be opened ({reason}; its files: {names}); "
                "name another checkpoint"
            ) from error
    if not len(found):
        raise ValueError("the tokenizer in the checkpoint holds no words; name another checkpoint")
    return found
