"""The report as one self-contained HTML page: sortable tables, plots embedded, nothing loaded."""

from __future__ import annotations

import base64
import csv
import html
from pathlib import Path
from typing import Any

from kexue_pl.run.files import write_text

__all__ = ["write_page"]

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif;
       margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #8884; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { cursor: pointer; user-select: none; } th[data-order]::after { content: " " attr(data-order); }
figure { display: inline-block; margin: .5rem 1rem .5rem 0; vertical-align: top; }
img { max-width: 100%; background: white; } figcaption { font-size: .85rem; opacity: .8; }
"""

OVERVIEWS = {
    "report.png": "metrics by run",
    "pareto.png": "one task against another",
    "landscape.png": "descents over the plane",
    "front.png": "descents towards the Pareto front",
    "front_distance.png": "distance to the Pareto front",
}

SCRIPT = """
document.querySelectorAll("th").forEach(head => head.addEventListener("click", () => {
  const table = head.closest("table"), column = [...head.parentNode.children].indexOf(head);
  const down = head.dataset.order === "\\u2191";
  table.querySelectorAll("th").forEach(other => delete other.dataset.order);
  head.dataset.order = down ? "\\u2193" : "\\u2191";
  const text = row => row.children[column].textContent;
  const order = (a, b) => {
    const x = parseFloat(text(a)), y = parseFloat(text(b));
    return isNaN(x) || isNaN(y) ? text(a).localeCompare(text(b)) : x - y;
  };
  const rows = [...table.tBodies[0].rows].sort(order);
  if (down) rows.reverse();
  rows.forEach(row => table.tBodies[0].append(row));
}));
"""


def _table(rows: list[list[Any]], head: list[str]) -> str:
    cells = "".join(f"<th>{html.escape(str(name))}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'


def _figure(path: Path, title: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    label = html.escape(title)
    source = f"data:image/png;base64,{data}"
    return f'<figure><img alt="{label}" src="{source}"><figcaption>{label}</figcaption></figure>'


def write_page(folder: Path, rows: list[list[Any]], head: list[str], shown: int = 24) -> Path:
    """Write report.html for the runs below `folder`.

    Args:
        folder: a run or a sweep.
        rows: cells of the main table, as text.
        head: its columns.
        shown: so many plots at most are embedded for each run, and as many runs.
    """
    parts = [f"<h1>{html.escape(str(folder.name))}</h1>", _table(rows, head)]
    for name, title in OVERVIEWS.items():
        if (folder / name).is_file():
            parts.append(_figure(folder / name, title))
    runs = sorted({path.parent for path in folder.rglob("summary.json")})
    for run in runs[:shown]:
        name = "." if run == folder else str(run.relative_to(folder))
        parts.append(f"<h2>{html.escape(name)}</h2>")
        for path in sorted((run / "plots").glob("*.png"))[:shown]:
            parts.append(_figure(path, path.stem))
        for path in sorted(run.glob("*.csv")):
            if path.name not in ("metrics.csv", "report.csv"):
                parts += _csv(path)
    if len(runs) > shown:
        parts.append(f"<p>{len(runs) - shown} more runs are in the table only.</p>")
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(folder.name)}</title><style>{STYLE}</style></head><body>"
        + "\n".join(parts)
        + f"<script>{SCRIPT}</script></body></html>\n"
    )
    write_text(folder / "report.html", text)
    return folder / "report.html"


def _csv(path: Path, most: int = 50) -> list[str]:
    with open(path, newline="", encoding="utf-8") as file:
        lines = [line for _, line in zip(range(most + 1), csv.reader(file))]
    return [f"<h3>{html.escape(path.stem)}</h3>", _table(lines[1:], lines[0])] if lines else []
