"""Several tasks on one encoder, balanced by any rule (kexue.fm/archives/8870, 8896, 8907)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kexue_pl.balancers import Balancer, Equal
from kexue_pl.data.objectives import Objectives
from kexue_pl.distributed import all_reduce_sum, world_size
from kexue_pl.gradients import (
    FanOut,
    TaskGradients,
    decay_as_task,
    fan_out,
    global_losses,
    scaled,
    task_gradients,
    window_backward,
)
from kexue_pl.tasks import multitask_parts as parts_of
from kexue_pl.tasks.balance import Balance, plot_balance
from kexue_pl.tasks.base import Penalty
from kexue_pl.tasks.descent import DescentRecord
from kexue_pl.tasks.heads import Head
from kexue_pl.tasks.manual import ManualTask
from kexue_pl.tasks.scores import TaskScores

__all__ = ["MultitaskTask"]

Batch = dict[str, Tensor]


class MultitaskTask(ManualTask):
    """Any number of tasks on one trunk; the balancer decides how their gradients add up.

    A rule that reads losses alone weights the loss of everything. A rule that reads gradients acts on
    the trunk: at ``level="encoding"`` where the tasks' gradients meet, in one ordinary backward (an
    upper bound of the exact problem, article 8896), at ``level="parameters"`` exactly. A task without
    labels in a batch, or with a loss or gradient that is not finite, is left out of the step: the
    others' update is what it would be without it. Weights and Gram are those of all ranks' batches and
    of the whole accumulation window.

    Args:
        data: a data module with ``subtasks``; set up.
        balancer: the rule.
        optimizer, scheduler: see :class:`BaseTask`.
        penalty: of the weighted sum, with the weights of the step; for rules that read losses alone.
        model: specification of a text encoder; None for features and objectives.
        attention: scaling of the attention, None for the usual one.
        level: ``encoding``, ``parameters``, or ``auto``: the encoding, except for rules that need the
            full matrix of gradients, and where tasks bring their own batches.
        heads: what task-specific parameters get: ``weighted``, ``own`` or ``auto`` (as the rule says).
        main_task: name of the main task, for rules that have one; its score is then the monitored one.
        sharing: ``hard``, ``mmoe``, ``cgc`` or ``cross_stitch``.
        experts: shared experts of ``mmoe`` and ``cgc``.
        widths: layers of the trunk over features.
        chunk: tasks that go through the trunk at once at the parameter level.
        read: patterns of names of the shared parameters whose gradients a rule reads at that level.
        decay_task: weight decay as an auxiliary of article 8907: a step never grows the shared weights.
        log_every: optimizer steps between two records of losses, weights and gradients.

    Raises:
        ValueError: settings that do not fit the data or each other.
    """

    monitor: ClassVar[str] = "val/score"
    monitor_mode: ClassVar[str] = "max"

    def __init__(
        self,
        *,
        data: Any,
        balancer: Balancer,
        optimizer: Callable[[Iterable[Any]], Optimizer],
        scheduler: Callable[..., LRScheduler] | None = None,
        penalty: Penalty | None = None,
        model: Any = None,
        attention: Any = None,
        level: Literal["auto", "encoding", "parameters"] = "auto",
        heads: Literal["auto", "own", "weighted"] = "auto",
        main_task: str | None = None,
        sharing: str = "hard",
        experts: int = 4,
        widths: Sequence[int] = (64, 32),
        chunk: int = 1,
        read: Sequence[str] = ("*",),
        decay_task: bool = False,
        log_every: int = 10,
    ) -> None:
        super().__init__(optimizer=optimizer, scheduler=scheduler, penalty=penalty)
        if heads not in ("auto", "own", "weighted"):
            raise ValueError(f"task.heads={heads!r}: expected auto, own or weighted")
        level = parts_of.choose_level(
            balancer, level, disjoint=bool(getattr(data, "disjoint", False))
        )
        self.data, self.balancer, self.level = data, balancer, level
        self.names = [task.name for task in data.subtasks]
        self.main = parts_of.main_index(main_task, self.names)
        parts_of.choose_main(balancer, self.main, main_task)
        parts_of.start_prior(balancer, data)
        parts = parts_of.make_parts(data, model, attention, sharing, experts, widths)
        self.trunk, self.sharing, self.heads = parts
        self.parts: list[Head] = list(self.heads)  # type: ignore[arg-type]
        self.head_rule = balancer.heads if heads == "auto" else heads
        if penalty is not None:
            parts_of.check_penalty(balancer, self.head_rule)
        self.chunk, self.log_every, self.decay_task = chunk, log_every, decay_task
        self.read = parts_of.read_parameters(self, read)
        self.quarantined = [0] * len(self.names)
        self.history: list[tuple[int, Balance]] = []
        self._step: Balance | None = None
        self._before: dict[str, Tensor] = {}
        self._scores = TaskScores(self.names, self.parts)
        self.descent = DescentRecord(data) if isinstance(data, Objectives) else None

    def encode(self, batch: Batch) -> Tensor:
        """What all tasks share of a batch."""
        out: Tensor = self.sharing(self.trunk(batch))
        return out

    def features(self, t: int, shared: Tensor, batch: Batch) -> Tensor:
        """What the head of task t reads of (a view of) the shared encoding."""
        out = self.sharing.task(t, shared)
        pool = getattr(self.trunk, "pool", None)
        return out if pool is None or self.parts[t].tokens else pool(out, batch)

    def task_losses(
        self, views: Sequence[Tensor], batch: Batch
    ) -> tuple[list[Tensor | None], list[float]]:
        """Local mean losses of all tasks (None without labels) and numbers of labels."""
        found = [
            head.loss(self.features(t, view, batch), batch)
            for t, (head, view) in enumerate(zip(self.parts, views))
        ]
        return [loss for loss, _ in found], [count for _, count in found]

    def own_parameters(self, t: int) -> list[nn.Parameter]:
        """Parameters of task t alone."""
        return [*self.parts[t].parameters(), *self.sharing.own(t)]

    def shared_parameters(self) -> list[nn.Parameter]:
        """Parameters of all tasks together."""
        own = {id(p) for t in range(len(self.names)) for p in self.own_parameters(t)}
        return [p for p in self.parameters() if id(p) not in own and p.requires_grad]

    def embeddings(self) -> nn.Module | None:
        """The word embeddings of a text encoder, or where features enter."""
        encoder = getattr(self.trunk, "encoder", None)
        return getattr(self.trunk, "inputs", None) if encoder is None else encoder.embeddings

    def loss(self, batch: Batch) -> Tensor:
        """The plain sum of the losses of a batch."""
        shared = self.encode(batch)
        losses, _ = self.task_losses([shared] * len(self.names), batch)
        present = [loss for loss in losses if loss is not None]
        return sum(present[1:], present[0])

    def window_gradients(self, batches: list[Batch]) -> None:
        """Weigh the tasks on the window and fill the gradients."""
        rule = self.balancer
        self._before = rule.state_dict()
        if rule.needs_matrix or (rule.needs_gram and self.level == "parameters"):
            self._by_parameters(batches)
        elif rule.needs_gram or self.head_rule == "own":
            self._by_encoding(batches)
        else:
            self._by_losses(batches)

    def _by_losses(self, batches: list[Batch]) -> None:
        """Rules without gradients: one ordinary backward from the weighted sum."""
        counts = self._counts(batches)
        total = counts.sum(0)
        values, state = self._window_losses(batches, counts), None
        if values is not None:
            state = self.balancer.weights(None, values)
        seen = torch.zeros(len(self.names), dtype=torch.float64)
        for index, batch in enumerate(batches):
            losses, local = self.task_losses([self.encode(batch)] * len(self.names), batch)
            reduced = global_losses(losses, local)
            if state is None:
                known = (
                    reduced.values if len(batches) == 1 else torch.where(total > 0, 1.0, torch.nan)
                )
                state = self.balancer.weights(None, known)
            share = torch.where(total > 0, counts[index] / total, 0.0)
            seen += torch.where(counts[index] > 0, reduced.values, 0.0) * share
            factors = (torch.where(state.isfinite(), state, 1.0) * share).tolist()
            terms = [scaled(x, factors[t]) for t, x in enumerate(reduced.terms) if x is not None]
            total_loss = self._penalised(self._summed(terms), batch, factors)
            self.run_backward(total_loss, index == len(batches) - 1)
        assert state is not None
        losses_seen = torch.where(total > 0, seen, torch.nan)
        self._finish(losses_seen, state, None, total, losses_seen.isfinite())

    def _penalised(self, plain: Tensor, batch: Batch, factors: list[float]) -> Tensor:
        """The weighted loss of a batch under the penalty, which computes it again itself."""
        if self.penalty is None:
            return plain

        def closure() -> Tensor:
            losses, local = self.task_losses([self.encode(batch)] * len(self.names), batch)
            terms = enumerate(global_losses(losses, local).terms)
            return self._summed([scaled(x, factors[t]) for t, x in terms if x is not None])

        trained = [p for p in self.parameters() if p.requires_grad]
        loss = self.penalty.loss(closure, parameters=trained, embeddings=self.embeddings())
        added = getattr(self.penalty, "value", None)
        if added is not None:
            self.log("train/penalty", added, batch_size=1)
        return loss

    def _window_losses(self, batches: list[Batch], counts: Tensor) -> Tensor | None:
        """Losses of the window, for rules that read them before the backward; None if not needed."""
        if len(batches) == 1 or not self.balancer.needs_losses:
            return None
        random = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]
        found = []
        with torch.no_grad():
            for batch in batches:
                losses, local = self.task_losses([self.encode(batch)] * len(self.names), batch)
                found.append(global_losses(losses, local).values)
        torch.set_rng_state(random[0])
        if random[1:]:
            torch.cuda.set_rng_state_all(random[1:])
        sums = (torch.where(counts > 0, torch.stack(found), 0.0) * counts).sum(0)
        return sums / counts.sum(0)

    def _by_encoding(self, batches: list[Batch]) -> None:
        """Balance where the tasks' gradients meet, in one backward (per micro-batch)."""
        tasks, last = len(self.names), len(batches) - 1
        if last == 0:
            fan = fan_out(self.encode(batches[0]), self.balancer, tasks=tasks)
            total = fan.join(*self.task_losses(fan.views, batches[0]))
            self.run_backward(self._summed([total]))
        else:
            fan = window_backward(
                batches,
                self.balancer,
                tasks=tasks,
                encode=self.encode,
                heads=self.task_losses,
                backward=lambda loss, i: self.run_backward(self._summed([loss]), i == last),
            )
        self._after_fan_out(fan, batches)

    def _after_fan_out(self, fan: FanOut, batches: list[Batch]) -> None:
        assert fan.losses is not None and fan.weights is not None and fan.gram is not None
        gram = fan.gram.cpu()
        sound = fan.losses.isfinite() & gram.diagonal().isfinite()
        if self.head_rule == "weighted" and bool(fan.weights.isfinite().all()):
            for t, (weight, live) in enumerate(zip(fan.weights.tolist(), sound.tolist())):
                grads = [p.grad for p in self.own_parameters(t) if p.grad is not None]
                if live and grads:
                    torch._foreach_mul_(grads, weight)
        reduced = fan.global_losses
        counts = self._counts(batches).sum(0) if reduced is None else reduced.counts
        self._finish(fan.losses, fan.weights, gram, counts, sound)

    def _by_parameters(self, batches: list[Batch]) -> None:
        """Balance the exact gradients of the shared parameters."""
        parts = []
        for batch in batches:
            fan = fan_out(self.encode(batch), Equal(), tasks=len(self.names))
            losses, counts = self.task_losses(fan.views, batch)
            parts.append(
                task_gradients(
                    losses,
                    self.shared_parameters(),
                    own=[self.own_parameters(t) for t in range(len(self.names))],
                    counts=counts,
                    fan=fan,
                    chunk=self.chunk,
                    scale=self.loss_scale(),
                    read=self.read,
                )
            )
        found = TaskGradients.merge(parts)
        update, weights = found.combine(self.balancer)
        scale_heads = self.head_rule == "weighted" and weights is not None
        finite = weights is not None and bool(weights.isfinite().all())
        found.assign(update, weights.tolist() if scale_heads and finite else None)  # type: ignore[union-attr]
        self._finish(found.losses, weights, found.gram.cpu(), found.counts, found.sound)

    def _counts(self, batches: list[Batch]) -> Tensor:
        """(micro-batches, T) labels over all ranks."""
        rows = [[head.count(batch) for head in self.parts] for batch in batches]
        local = torch.tensor(rows, dtype=torch.float64)
        return all_reduce_sum(local.to(self.device)).cpu() if world_size() > 1 else local

    def _summed(self, terms: list[Tensor]) -> Tensor:
        """The sum of the terms; over several ranks every parameter of a head takes part."""
        total = sum(terms[1:], terms[0]) if terms else torch.zeros((), device=self.device)
        if world_size() > 1 or not terms:
            for p in self.parameters():
                if p.requires_grad:
                    total = total + p.reshape(-1)[0] * 0.0
        return total

    def _finish(
        self,
        losses: Tensor,
        weights: Tensor | None,
        gram: Tensor | None,
        counts: Tensor,
        sound: Tensor,
    ) -> None:
        """Take the gradients of absent and broken tasks' heads away; count and remember."""
        there = sound.tolist()
        for t, live in enumerate(there):
            if not live and any(there):
                self.quarantined[t] += int(counts[t] > 0)
                for p in self.own_parameters(t):
                    p.grad = None
        self._step = Balance(losses, weights, gram, self.balancer.certified)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Weight decay as a task, then what every manual step does."""
        if self.decay_task:
            decay_as_task(self.shared_parameters())
        super().on_before_optimizer_step(optimizer)

    def after_step(self, skipped: bool) -> None:
        """Undo the rule's learning of a skipped step; log."""
        if skipped:
            self.balancer.load_state_dict(self._before)
        step = self._step
        assert step is not None
        self.log("train/loss", step.losses.nansum().float(), prog_bar=self.has_bar, batch_size=1)
        if self.global_step % self.log_every:
            return
        values = step.metrics(self.names)
        if self.descent is not None:
            known = self.descent.add(self.global_step, self.trunk.x)  # type: ignore[arg-type]
            values |= {f"train/{key}": value for key, value in known.items()}
        for name, count in zip(self.names, self.quarantined):
            if count:
                values[f"train/quarantined/{name}"] = float(count)
        self.log_dict(values, batch_size=1)
        self.history.append((self.global_step, step))

    def _log_scores(self, stage: str) -> None:
        for name, value in self._scores.reduce(self.device, self.main).items():
            self.log(f"{stage}/{name}", value, prog_bar=name == "score")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect the scores of a batch."""
        shared = self.encode(batch)
        for t, head in enumerate(self.parts):
            self._scores.add(t, head.scores(self.features(t, shared, batch), batch))

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect the scores of a batch."""
        self.validation_step(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log the test metrics, and what is known of the point of an objective."""
        self._log_scores("test")
        if self.descent is not None:
            for key, value in self.data.measure(self.trunk.x).items():
                self.log(f"test/{key}", value)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the rule's state and the counts."""
        checkpoint["multitask"] = {
            "balancer": self.balancer.state_dict(),
            "quarantined": list(self.quarantined),
            "skipped": self.skipped_steps,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the rule's state and the counts back."""
        state = checkpoint["multitask"]
        self.balancer.load_state_dict(state["balancer"])
        self.quarantined = list(state["quarantined"])
        self.skipped_steps = int(state["skipped"])

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Losses, weights, norms and cosines of the recorded steps."""
        return parts_of.tables_of(self.history, self.names, self.descent)

    def plots(self, folder: Path) -> list[Path]:
        """Losses and weights over the steps, mean cosines; where a descent went."""
        written = plot_balance(self.history, self.names, folder)
        return written + ([] if self.descent is None else self.descent.plots(folder))
