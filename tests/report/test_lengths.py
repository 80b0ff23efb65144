"""Plots against length."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from kexue_pl.report import lengths
from kexue_pl.report.lengths import interval, plot_accuracy, plot_entropy, plot_sweep


@pytest.fixture
def drawn(monkeypatch):
    """The axes of the figures instead of their files."""
    found = []
    monkeypatch.setattr(lengths, "save", lambda figure, path: found.append(figure.axes[0]) or path)
    return found


def test_interval_is_that_of_a_mean():
    values = [0.2, 0.5, 0.3, 0.9]
    low, high = stats.t.interval(
        0.95, 3, loc=sum(values) / 4, scale=stats.sem(values)
    )  # an independent way to it
    assert interval(values) == pytest.approx((high - low) / 2)
    assert interval([0.7]) == 0.0


def test_bands_hold_the_seeds_of_each_setting(tmp_path, drawn):
    curves = {"a": [{64: 0.5, 128: 0.4}, {64: 0.52, 128: 0.5}], "b": [{64: 0.1, 128: 0.2}]}
    plot_accuracy(curves, tmp_path / "x.png")
    (axes,) = drawn
    first, second = axes.lines
    assert first.get_ydata() == pytest.approx([51.0, 45.0])
    assert second.get_ydata() == pytest.approx([10.0, 20.0])
    (band,) = axes.collections  # one seed has none
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.max() == 100.0  # two seeds tell little: 12.7 times their error
    assert heights.min() == 0.0
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]


def test_entropy_has_a_line_a_head_and_one_a_layer(tmp_path, drawn):
    entropies = {n: torch.tensor([[1.0, 3.0], [0.5, 0.7]]) * math.log(n) for n in (64, 256)}
    plot_entropy(entropies, tmp_path / "x.png")
    (axes,) = drawn
    assert len(axes.lines) == 2 * 2 + 2
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["layer 0: slope 2.00", "layer 1: slope 0.60"]


def test_a_sweep_is_drawn_where_it_was_tested_at_lengths(tmp_path, drawn):
    runs = [{"test/accuracy@64": 0.5, "test/accuracy@1024": 0.3, "test/loss@64": 9.0}] * 2
    plot_sweep(["a", "a", "b"], [*runs, {"test/accuracy": 1.0}], tmp_path)
    (axes,) = drawn
    assert [list(line.get_xdata()) for line in axes.lines] == [[64, 1024]]
    plot_sweep(["b"], [{"test/accuracy": 1.0}], tmp_path)
    assert len(drawn) == 1
