"""What each penalty costs: a training step with it, relative to the plain step.

    python scripts/bench/penalties.py --repeats 20

Processor time of loss, penalty and backward, the minimum of the repeats, one thread: a perceptron
on vectors and a small Hugging Face BERT with its default attention.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kexue_pl.penalties import (
    FGM,
    PGD,
    SAM,
    VAT,
    Flooding,
    InputGradient,
    ParameterGradient,
    Penalty,
    record_output,
)

PENALTIES: dict[str, Callable[[], Penalty]] = {
    "plain": Penalty,
    "flooding": Flooding,
    "input_gradient": InputGradient,
    "input_gradient, finite difference": lambda: InputGradient(method="finite_difference"),
    "parameter_gradient, batch": ParameterGradient,
    "parameter_gradient, finite difference": lambda: ParameterGradient(method="finite_difference"),
    "parameter_gradient, per sample": lambda: ParameterGradient(
        reduction="sample", uncovered="ignore"
    ),
    "fgm": FGM,
    "pgd, 3 steps": PGD,
    "vat": VAT,
    "sam": SAM,
}
Case = tuple[nn.Module, nn.Module, Callable[[], Tensor]]


def perceptron() -> Case:
    """64-256-256-10, batch 128."""
    net = nn.Sequential(
        nn.Identity(),
        nn.Linear(64, 256),
        nn.Tanh(),
        nn.Linear(256, 256),
        nn.Tanh(),
        nn.Linear(256, 10),
    )
    x, y = torch.randn(128, 64), torch.randint(0, 10, (128,))
    return net, net[0], lambda: F.cross_entropy(record_output(net(x)), y)


def bert() -> Case:
    """2 layers of width 64, batch 8, 32 tokens."""
    from transformers import BertConfig, BertForSequenceClassification

    net = BertForSequenceClassification(
        BertConfig(
            vocab_size=200,
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=256,
            max_position_embeddings=32,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )
    ids, y = torch.randint(1, 200, (8, 32)), torch.randint(0, 2, (8,))
    table = net.bert.embeddings.word_embeddings
    return net, table, lambda: F.cross_entropy(record_output(net(input_ids=ids).logits), y)


def milliseconds(case: Case, penalty: Penalty, repeats: int) -> float:
    """Processor time of one forward, penalty and backward."""
    net, embeddings, closure = case
    parameters, times = list(net.parameters()), []
    for _ in range(repeats + 2):
        net.zero_grad()
        start = time.thread_time()
        penalty.loss(closure, parameters=parameters, embeddings=embeddings).backward()
        penalty.after_backward()
        times.append(time.thread_time() - start)
    return 1e3 * min(times[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    # Backward runs on this thread, so that its time is counted.
    torch.autograd.set_multithreading_enabled(False)
    torch.manual_seed(0)
    cases = {"perceptron": perceptron(), "bert": bert()}
    plain = {n: milliseconds(c, Penalty(), arguments.repeats) for n, c in cases.items()}
    print("| penalty | " + " | ".join(f"{n} ({plain[n]:.1f} ms)" for n in cases) + " |")
    print("|---|" + "---|" * len(cases))
    for name, make in PENALTIES.items():
        ratios = [
            f"{milliseconds(case, make(), arguments.repeats) / plain[n]:.1f}"
            for n, case in cases.items()
        ]
        print(f"| {name} | " + " | ".join(ratios) + " |", flush=True)


if __name__ == "__main__":
    main()
