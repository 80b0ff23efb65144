"""What the scaling of article 8823 costs: attention alone, its memory, and a training step of BERT.

    python scripts/bench/attention.py --seconds 1

Three tables. Forward and backward of the registered function against PyTorch's plain SDPA on the
same tensors, in float32, where all rows see equally many keys (the factor goes into ``scale``) and
where each has its own n (padding, causal: it goes into the queries). The memory that one forward
and backward adds at the longest length, beside the size of an n x n matrix. A training step of a
small BERT against the step with transformers' own ``sdpa``. Times are of the processor, the minimum
of repeats in turn, one thread.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kexue_pl.attention import EntropyInvariant, ScaledAttention, register
from kexue_pl.testing.memory import highest_memory, watch_memory

SHAPES = [(16, 4, 64, 64), (8, 4, 256, 64), (4, 8, 512, 64), (2, 8, 1024, 64), (1, 8, 4096, 64)]
"""(batch, heads, n, head size), from many short rows to one long one."""

Step = Callable[[], object]


class Layer(nn.Module):
    """As much of an attention layer as the function reads."""

    num_key_value_groups = 1

    def __init__(self, *, causal: bool) -> None:
        super().__init__()
        self.is_causal = causal


def alternated(steps: dict[str, Step], seconds: float) -> dict[str, float]:
    """Least processor time of each step in milliseconds, the steps taken in turn for a while."""
    best = dict.fromkeys(steps, float("inf"))
    for step in steps.values():
        step()
    begin, rounds = time.perf_counter(), 0
    while rounds < 2 or time.perf_counter() - begin < seconds:
        for name, step in steps.items():
            start = time.thread_time()
            step()
            best[name] = min(best[name], 1e3 * (time.thread_time() - start))
        rounds += 1
    return best


def attention_steps(shape: tuple[int, int, int, int], kind: str) -> dict[str, Step]:
    """Forward and backward with and without the scaling; ``kind`` is equal, padding or causal."""
    batch, _, n, _ = shape
    q, k, v = (torch.randn(shape, requires_grad=True) for _ in range(3))
    grad = torch.randn(batch, n, shape[1], shape[3])
    mask = None
    if kind == "padding":
        ends = torch.linspace(n // 2, n, batch).long() if batch > 1 else torch.tensor([n // 2])
        mask = (torch.arange(n) < ends[:, None])[:, None, None, :].expand(batch, 1, n, n)
    layer, function = Layer(causal=kind == "causal"), ScaledAttention("bench", EntropyInvariant())

    def plain() -> None:
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=kind == "causal")
        out.transpose(1, 2).contiguous().backward(grad)

    def scaled() -> None:
        function(layer, q, k, v, mask)[0].backward(grad)

    return {"plain": plain, "scaled": scaled}


def bert_steps(*, padded: bool) -> dict[str, Step]:
    """A training step of BERT (2 layers of width 128, 16 rows of 64 tokens) with either attention."""
    from transformers import BertConfig, BertForMaskedLM

    register("bench_entropy_invariant", EntropyInvariant())
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 1000, (16, 64), generator=generator)
    mask = (torch.arange(64) < torch.linspace(32, 64, 16)[:, None]).long() if padded else None

    def step_of(attention: str) -> Step:
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=1000,
            hidden_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=512,
        )
        model = BertForMaskedLM._from_config(config, attn_implementation=attention).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

        def step() -> None:
            optimizer.zero_grad()
            loss: Tensor = model(input_ids=ids, attention_mask=mask, labels=ids).loss
            loss.backward()
            optimizer.step()

        return step

    return {"plain": step_of("sdpa"), "scaled": step_of("bench_entropy_invariant")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="for each line of a table")
    parser.add_argument("--longest", type=int, default=4096, help="leave longer rows out, tokens")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    # Backward runs on this thread, so that its time is counted.
    torch.autograd.set_multithreading_enabled(False)
    torch.manual_seed(0)
    shapes = [shape for shape in SHAPES if shape[2] <= arguments.longest]

    print("| rows | batch x heads x n x d | SDPA, ms | with the scaling, ms | ratio |")
    print("|---|---|---|---|---|")
    for kind in ("equal", "padding", "causal"):
        for shape in shapes:
            spent = alternated(attention_steps(shape, kind), arguments.seconds)
            _line(f"| {kind} | {'x'.join(map(str, shape))} |", spent)

    if sys.platform == "linux":
        _memory_table(shapes[-1])

    print("\n| step of BERT | sdpa, ms | entropy_invariant, ms | ratio |")
    print("|---|---|---|---|")
    for padded in (False, True):
        spent = alternated(bert_steps(padded=padded), 4 * arguments.seconds)
        _line(f"| {'padded' if padded else 'full'} rows |", spent)


def _memory_table(shape: tuple[int, int, int, int]) -> None:
    print("\n| rows, longest shape | SDPA adds, MiB | with the scaling, MiB | n x n, MiB |")
    print("|---|---|---|---|")
    _, heads, n, _ = shape
    for kind in ("equal", "causal"):
        found: list[float] = []
        for step in attention_steps(shape, kind).values():
            step()
            before = watch_memory()
            step()
            found.append(highest_memory() - before)
        square = heads * n * n * 4 / 2**20
        print(f"| {kind} | {found[0]:.0f} | {found[1]:.0f} | {square:.0f} |", flush=True)


def _line(begin: str, spent: dict[str, float]) -> None:
    plain, scaled = spent["plain"], spent["scaled"]
    print(f"{begin} {plain:.2f} | {scaled:.2f} | {scaled / plain:.2f} |", flush=True)


if __name__ == "__main__":
    main()
