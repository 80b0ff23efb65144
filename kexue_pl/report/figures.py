"""How our figures look: one style, readable sizes, fonts that hold Chinese."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

__all__ = ["COLORS", "new_figure", "save"]

COLORS = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#BBBBBB")
"""Paul Tol's bright scheme: told apart by colour-blind readers too."""

CHINESE = ("Noto Sans CJK SC", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "SimHei", "PingFang SC")


@functools.cache
def _style() -> Any:
    from matplotlib import font_manager

    present = {font.name for font in font_manager.fontManager.ttflist}
    fonts = [name for name in CHINESE if name in present]
    return {
        "font.family": ["DejaVu Sans", *fonts],
        "font.size": 11,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.dpi": 130,
        "axes.unicode_minus": False,
    }


def new_figure(width: float = 7.0, height: float = 4.2, columns: int = 1) -> tuple[Any, Any]:
    """A figure and its axes (an array if `columns` > 1), in inches, drawn without a display."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(_style()):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, columns)
    return figure, axes


def save(figure: Any, path: Path) -> Path:
    """Write the figure as PNG; the path."""
    from matplotlib import rc_context

    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context(_style()):
        figure.savefig(path)
    return path
