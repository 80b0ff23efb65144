"""Every option of ``attention=`` trains in every task, composed as from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from kexue_pl.attention.register import pretrained_body, registered
from kexue_pl.run.overrides import options
from kexue_pl.run.targets import resolve
from kexue_pl.run.train import assemble
from tests.support.runs import composed

SMALL = ("model=small", "model.hidden_size=32", "model.layers=1", "data.batch_size=4")
WORDS = {
    "matching": ("task=matching", *SMALL, "data.train=40"),
    "multitask": ("task=multitask", "data=multitask_world", *SMALL),
    "kgclue": (
        "task=kgclue", "model.hidden_size=32", "model.layers=1", "data.batch_size=4",
    ),
    "mlm": ("task=mlm", "data=recall", "data.rows=8", "data.batch_size=4", "model.layers=1"),
}  # fmt: skip


@pytest.mark.parametrize("task", WORDS)
@pytest.mark.parametrize("name", options("attention"))
def test_attention_in_task(tmp_path: Path, task: str, name: str) -> None:
    config = composed(tmp_path, *WORDS[task], f"attention={name}")
    data, module = assemble(config)
    batch = next(iter(data.train_dataloader()))
    module.train()
    module.loss(batch).backward()
    body = pretrained_body(module)
    function = registered(body.config._attn_implementation)
    assert type(function.scaling) is resolve(config["attention"]["_target_"], "attention")
    assert function.calls > 0
    learned = [p for key, p in module.named_parameters() if "attention_scaling" in key]
    assert bool(learned) == function.scaling.learned
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learned)


def test_the_scaling_reaches_the_loss(tmp_path: Path) -> None:
    """A control of the test above: with the very same weights another scaling gives another loss."""
    losses = []
    for name in ("standard", "mup"):
        data, module = assemble(composed(tmp_path, *WORDS["matching"], f"attention={name}"))
        module.eval()
        if name == "standard":
            state = module.state_dict()
        module.load_state_dict(state)
        losses.append(module.loss(next(iter(data.train_dataloader()))).item())
    assert losses[0] != losses[1]
