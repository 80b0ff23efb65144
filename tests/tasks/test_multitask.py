"""The multi-task task: every rule, absent and broken tasks, ranks, records."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kexue_pl import balancers as b
from kexue_pl.data.digits import Digits
from kexue_pl.data.quadratics import Quadratics
from kexue_pl.data.subtasks import Subtask
from kexue_pl.data.toy import Toy
from tests.support.ranks import run_ranks
from tests.tasks.multi import digits, fit, task, trainer

TWO = {
    "constant": lambda: b.Constant([1.0, 0.5]),
    "scheduled": lambda: b.Scheduled([1.0, 0.0], [1.0, 1.0], steps=3),
    "torchjd": lambda: b.TorchJD("AlignedMTL"),
    "ema": lambda: b.EMA(b.MGDA()),
    "graddrop": b.GradDrop,
}
PLAIN = [
    b.Equal, b.Initial, b.Prior, b.RealTime, b.Geometric, b.GeneralizedMean, b.InverseGradNorm, b.MGDA,
    b.SmoothMin, b.Primary, b.GradNorm, b.Uncertainty, b.DWA, b.RLW, b.IMTLL, b.IMTLG, b.PCGrad, b.GradVac,
    b.CAGrad, b.Nash, b.Aligned, b.FairGrad, b.STCH, b.FAMO, b.DBMTL, b.UPGrad, b.DualProj, b.ConFIG,
]  # fmt: skip
RULES = TWO | {rule.__name__: rule for rule in PLAIN}


@pytest.mark.parametrize("level", ["encoding", "parameters"])
@pytest.mark.parametrize("name", RULES)
def test_every_rule_trains(name: str, level: Any) -> None:
    if name == "graddrop" and level == "encoding":
        with pytest.raises(ValueError, match=r"task\.level=parameters"):
            task(digits(), b.GradDrop(), level=level)
        assert task(digits(), b.GradDrop()).level == "parameters"
        return
    model = task(digits(train_rows=64), RULES[name](), level=level, log_every=1)
    start = torch.cat([p.detach().flatten() for p in model.parameters()]).clone()
    after = fit(model, 4)
    assert bool(after.isfinite().all()) and not torch.equal(after, start)
    assert len(model.history) == 4
    assert model.quarantined == [0, 0]


def test_every_exported_rule_is_tested() -> None:
    rules = {
        n
        for n in b.__all__
        if isinstance(getattr(b, n), type) and issubclass(getattr(b, n), b.Balancer)
    }
    tested = {type(make()).__name__ for make in RULES.values()}
    assert rules - {"Balancer"} == tested


@pytest.mark.parametrize("level", ["encoding", "parameters"])
@pytest.mark.parametrize("rule", [b.Equal, b.MGDA, b.InverseGradNorm, b.Geometric, b.Primary])
@pytest.mark.parametrize("how", ["absent", "nan"])
def test_a_dead_task_leaves_the_others_exactly_alone(
    level: Any, rule: type[b.Balancer], how: str
) -> None:
    def run(dead: bool) -> tuple[Tensor, Any]:
        data = digits(missing=1.0 if dead and how == "absent" else 0.0)
        if not dead:
            data.subtasks = data.subtasks[:1]
        model = task(data, rule(), level=level)
        if dead and how == "nan":
            head = model.parts[1]
            head.finish = lambda loss: loss * float("nan")  # type: ignore[method-assign]
        fit(model, 5, gradient_clip_val=1.0)
        kept = [*model.trunk.parameters(), *model.parts[0].parameters()]
        return torch.cat([p.detach().flatten() for p in kept]), model

    (want, _), (got, model) = run(False), run(True)
    assert torch.equal(got, want)
    assert model.quarantined == ([0, 5] if how == "nan" else [0, 0])


def test_a_dead_task_keeps_its_head_still() -> None:
    model = task(digits(missing=1.0), b.MGDA())
    before = [p.detach().clone() for p in model.parts[1].parameters()]
    fit(model, 3)
    assert all(torch.equal(p, q) for p, q in zip(before, model.parts[1].parameters()))


CASES: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "equal": (b.Equal, {}, {}),
    "geometric": (b.Geometric, {}, {}),
    "mgda encoding": (b.MGDA, {}, {}),
    "inverse encoding": (b.InverseGradNorm, {}, {"accumulate_grad_batches": 2}),
    "inverse parameters": (
        b.InverseGradNorm,
        {"level": "parameters"},
        {"accumulate_grad_batches": 2},
    ),
    "mgda parameters": (b.MGDA, {"level": "parameters"}, {"gradient_clip_val": 0.5}),
    "gradnorm": (b.GradNorm, {}, {"gradient_clip_val": 0.5}),
    "graddrop": (b.GradDrop, {"level": "parameters"}, {}),
    "mmoe": (b.CAGrad, {"sharing": "mmoe"}, {}),
    "cgc": (b.Nash, {"sharing": "cgc", "level": "parameters"}, {}),
}

# With full labels as well; the others only where most batches of a rank lack labels.
BOTH = ("equal", "mgda encoding", "mgda parameters")


def _runs(rank: int, world: int) -> dict[str, tuple[Tensor, Tensor]]:
    torch.set_num_threads(1)
    out = {}
    for name, (rule, settings, options) in CASES.items():
        for missing in (0.0, 0.9) if name in BOTH else (0.9,):
            model = task(digits(missing=missing), rule(), log_every=1, **settings)
            weights = fit(model, 6, **dict(options))
            losses = torch.stack([step.losses for _, step in model.history])
            out[f"{name} {missing}"] = weights, losses.nan_to_num(-1)
    return out


@cache
def _results() -> tuple[list[dict[str, tuple[Tensor, Tensor]]], dict[str, tuple[Tensor, Tensor]]]:
    return run_ranks(_runs, 2), _runs(0, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "missing"), [(n, m) for n in CASES for m in (0.0, 0.9) if m or n in BOTH]
)
def test_two_ranks_of_the_trainer_equal_one(name: str, missing: float) -> None:
    two, one = _results()
    key = f"{name} {missing}"
    assert torch.equal(two[0][key][0], two[1][key][0])
    torch.testing.assert_close(two[0][key][0], one[key][0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(two[0][key][1], one[key][1], atol=1e-5, rtol=1e-5)


def test_primary_with_its_main_task_by_name() -> None:
    model = task(digits(), b.Primary(), main_task="bottom_right")
    assert model.balancer.main == 1 and model.main == 1  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"task\.main_task='x': expected one of top_left"):
        task(digits(), b.Primary(), main_task="x")


def test_scores_are_means_over_all_rows_and_named_by_contract() -> None:
    data = digits(eval_batch_size=7)
    model = task(data, b.Equal())
    runner = trainer(1)
    runner.test(model, datamodule=data, verbose=False)
    metrics = {k: float(v) for k, v in runner.callback_metrics.items()}
    rows = data.collate([{**row, "row_id": 0, "epoch": 0} for row in data.test_set or []])
    model.eval()
    shared = model.encode(rows)
    logits = model.parts[0].outputs(shared)
    accuracy = (logits.argmax(-1) == rows["label_top_left"]).double().mean()
    assert metrics["test/top_left/accuracy"] == pytest.approx(float(accuracy), abs=1e-6)
    loss = torch.nn.functional.cross_entropy(logits.detach(), rows["label_top_left"])
    assert metrics["test/loss/top_left"] == pytest.approx(float(loss), rel=1e-5)
    assert {"test/score", "test/loss", "test/loss/bottom_right"} <= set(metrics)


def test_a_rule_may_read_the_last_layer_alone() -> None:
    data, read = digits(), ["trunk.layers.2"]
    names = dict(task(data, b.MGDA()).named_parameters())
    assert any(name.startswith(read[0]) for name in names), list(names)
    full = fit(task(data, b.MGDA(), level="parameters"), 5)
    model = task(data, b.MGDA(), level="parameters", read=read)
    assert model.read is not None and len(model.read) == 2
    assert not torch.equal(fit(model, 5), full)
    assert torch.equal(fit(task(data, b.MGDA(), level="parameters", read=["*"]), 5), full)
    for settings, told in (
        ({"level": "encoding", "read": read}, r"task\.level=parameters"),
        ({"level": "parameters", "read": ["heads*"]}, "no parameter that the tasks share"),
        (
            {"level": "parameters", "read": ["nothing"]},
            "no trainable parameter is called 'nothing'",
        ),
    ):
        with pytest.raises(ValueError, match=told):
            task(data, b.MGDA(), **settings)  # type: ignore[arg-type]


class Counts(Digits):
    """The second task is to tell a number: the bottom right digit itself."""

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.subtasks = [self.subtasks[0], Subtask("bottom_right", "number")]


def test_regression_beside_classification() -> None:
    data = Counts(train_rows=192, valid_rows=40, test_rows=40, batch_size=16)
    data.setup("fit")
    model = task(data, b.InverseGradNorm())
    head = model.parts[1]
    first = head.compare(torch.tensor([1.0, 3.0]), torch.tensor([2, 0]))
    assert first.tolist() == [1.0, 9.0]
    runner = trainer(1)
    before = runner.test(model, datamodule=data, verbose=False)[0]
    model.make_optimizer = lambda groups: torch.optim.Adam(model.parameters(), lr=1e-2)
    fit(model, 60)
    after = trainer(1).test(model, datamodule=data, verbose=False)[0]
    assert after["test/bottom_right/mae"] < 0.8 * before["test/bottom_right/mae"]
    assert after["test/loss/bottom_right"] < before["test/loss/bottom_right"]


SOURCES = ("round_robin", "proportional", "temperature", "joint")


def world(sampling: str) -> Any:
    """Four text tasks with few rows and a tokenizer of their own."""
    from kexue_pl.data.multitask_world import MultitaskWorld
    from kexue_pl.models.static import Static

    rows = None if sampling == "shared" else [64, 32, 32, 48]
    data = MultitaskWorld(
        train_rows=128, valid_rows=20, test_rows=20, batch_size=16, sampling=sampling, source_rows=rows
    )  # fmt: skip
    data.setup("fit")
    spec = Static(hidden_size=8)
    data.tokenizer = spec.train_tokenizer(data.texts())
    return data, spec


def _separate(rank: int, world_size: int) -> dict[str, tuple[Tensor, list[Any]]]:
    torch.set_num_threads(1)
    out = {}
    for sampling in ("shared", *SOURCES):
        data, spec = world(sampling)
        model = task(data, b.InverseGradNorm(), model=spec, log_every=1)
        after = fit(model, 8, accumulate_grad_batches=2 if sampling == "round_robin" else 1)
        out[f"{model.level} {sampling}"] = after, [step.losses for _, step in model.history]
    return out


@pytest.mark.slow
def test_tasks_with_batches_of_their_own_train_the_same_on_two_ranks_as_on_one() -> None:
    two, one = run_ranks(_separate, 2), _separate(0, 1)
    assert set(one) == {"encoding shared", *(f"parameters {name}" for name in SOURCES)}
    for key, (want, losses) in one.items():
        assert torch.equal(two[0][key][0], two[1][key][0])
        torch.testing.assert_close(two[0][key][0], want, atol=1e-6, rtol=1e-5)
        present = torch.stack(losses).isfinite().sum(1).tolist()
        number = {"encoding shared": 4, "parameters joint": 4, "parameters round_robin": 2}
        assert present == [number.get(key, 1)] * 8


def test_the_encoding_is_warned_of_where_batches_are_separate() -> None:
    data, spec = world("joint")
    with pytest.warns(UserWarning, match=r"task\.level=parameters"):
        task(data, b.MGDA(), model=spec, level="encoding")
    assert task(data, b.Equal(), model=spec).level == "encoding"


def test_prior_reads_the_training_labels() -> None:
    data = digits(train_rows=2000, scales=[1.0, 10.0])
    model = task(data, b.Prior())
    losses = model.balancer.state_dict()["losses"]
    assert float(losses[0]) == pytest.approx(2.30, abs=0.01)
    assert float(losses[1] / losses[0]) == pytest.approx(10, rel=0.01)


def test_objectives_reach_their_front() -> None:
    data = Quadratics(condition=5.0, gap=100.0)
    data.setup("fit")
    model = task(data, b.MGDA(normalize="gradient"))
    model.make_optimizer = lambda groups: torch.optim.SGD(model.parameters(), lr=0.3)
    model.total_steps = 300
    fit(model, 300)
    found = data.measure(model.trunk.x)  # type: ignore[arg-type, union-attr]
    assert found["front_distance"] < 0.05 and found["balance"] > 0.3
    toy = Toy()
    toy.setup("fit")
    small = task(toy, b.MGDA(), log_every=1)
    assert fit(small, 3).shape == (2,)
    assert [row["step"] for row in small.tables()["descent"]] == [1, 2, 3]
    assert float(small.trainer.callback_metrics["train/front_distance"]) > 1
    with pytest.raises(ValueError, match=r"task\.sharing=mmoe"):
        task(toy, b.MGDA(), sharing="mmoe")


def test_checkpoint_holds_primitives_and_restores_the_rule(tmp_path: Path) -> None:
    model = task(digits(), b.GradNorm())
    fit(model, 5)
    model.trainer.save_checkpoint(tmp_path / "a.ckpt")
    stored = torch.load(tmp_path / "a.ckpt", weights_only=True)
    fresh = task(digits(), b.GradNorm())
    fresh.on_load_checkpoint(stored)
    for key, value in model.balancer.state_dict().items():
        assert torch.equal(value, fresh.balancer.state_dict()[key])


def test_records_become_a_table_and_plots(tmp_path: Path) -> None:
    model = task(digits(), b.MGDA(), log_every=2)
    fit(model, 6)
    rows = model.tables()["balance"]
    assert [row["step"] for row in rows] == [2, 4, 6]
    assert {
        "train/cosine/top_left-bottom_right",
        "train/gap",
        "train/norm/top_left",
        "train/conflict",
    } <= set(rows[0])
    assert all(row["train/gap"] < 1e-8 for row in rows)
    names = {path.name for path in model.plots(tmp_path)}
    assert names == {"balance_losses.png", "balance_weights.png", "balance_cosines.png"}
    assert all((tmp_path / name).stat().st_size > 2000 for name in names)


@pytest.mark.parametrize("bad", [{"level": "x"}, {"heads": "x"}, {"sharing": "x"}, {"widths": []}])
def test_settings_are_checked(bad: dict[str, Any]) -> None:
    settings = dict(bad)
    data = digits()
    with pytest.raises(ValueError, match="task\\."):
        if "widths" in settings:
            from kexue_pl.tasks.trunks import FeatureTrunk

            FeatureTrunk(144, settings["widths"])
        else:
            task(data, b.MGDA(), **settings)


def test_weight_decay_as_a_task_never_lets_plain_descent_grow_the_trunk() -> None:
    def lengths(decay_task: bool) -> list[float]:
        model = task(digits(), b.Equal(), decay_task=decay_task)
        model.make_optimizer = lambda groups: torch.optim.SGD(model.parameters(), lr=1e-3)
        out = []
        for _ in range(3):
            fit(model, 10)
            out.append(
                float(torch.cat([p.detach().flatten() for p in model.shared_parameters()]).norm())
            )
        return out

    guarded, free = lengths(True), lengths(False)
    assert guarded[-1] < free[-1] and free[0] < free[-1]
    assert guarded[-1] <= guarded[0] * (1 + 1e-4)
