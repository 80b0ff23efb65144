"""Whether bfloat16 is worth it on the device at hand."""

from __future__ import annotations

import torch

__all__ = ["bf16_pays"]


def bf16_pays(device: torch.device, width: int) -> bool:
    """Whether a transformer of a hidden width runs faster under bfloat16 autocast.

    True on GPUs with bfloat16 and on CPUs with instructions for it (AMX, AVX512-BF16), from 64
    wide on: in narrower models the conversions cost more than the products save. On a CPU without
    such instructions bfloat16 is several times slower than float32.

    >>> bf16_pays(torch.device("cpu"), width=32)
    False
    """
    if width < 64:
        return False
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        # Private names of PyTorch, so a version without them says no.
        names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
        return any(getattr(torch.cpu, name, bool)() for name in names)
    return False
