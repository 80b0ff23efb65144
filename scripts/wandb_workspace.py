"""A W&B workspace as code: a section for each article, from the recipes in scripts/articles.

    python scripts/wandb_workspace.py ENTITY/PROJECT              # saves it, prints its address
    python scripts/wandb_workspace.py ENTITY/PROJECT --dry-run    # prints what it would save

Needs `pip install wandb-workspaces`, and WANDB_API_KEY unless --dry-run is given.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import yaml

RECIPES = Path(__file__).resolve().parent / "articles"
WIDTH, HEIGHT = 8, 6  # of a panel, in the grid of 24 columns


def sections() -> list[Any]:
    """A section an article: curves while training, then the figures of its table."""
    import wandb_workspaces.reports.v2 as panels
    import wandb_workspaces.workspaces as workspaces

    found = []
    for path in sorted(RECIPES.glob("*.yaml")):
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
        curves = [
            panels.LinePlot(title=name, x="Step", metric_regex=pattern, layout=_place(number))
            for number, (name, pattern) in enumerate(recipe.get("curves", {}).items())
        ]
        bars = [
            panels.BarPlot(
                title=metric,
                metrics=[panels.SummaryMetric(metric)],
                layout=_place(len(curves) + number),
            )
            for number, metric in enumerate(recipe["metrics"])
            if "/" in metric
        ]
        if curves or bars:
            title = f"{path.stem} {recipe['title']}"
            found.append(workspaces.Section(name=title, panels=curves + bars, is_open=not found))
    return found


def _place(number: int) -> Any:
    import wandb_workspaces.reports.v2 as panels

    row, column = divmod(number, 24 // WIDTH)
    return panels.Layout(x=column * WIDTH, y=row * HEIGHT, w=WIDTH, h=HEIGHT)


def workspace(entity: str, project: str) -> Any:
    """The whole workspace, not saved yet."""
    import wandb_workspaces.workspaces as workspaces

    return workspaces.Workspace(
        entity=entity, project=project, name="kexue_pl: the articles", sections=sections()
    )


def main() -> int:
    """Save or print the workspace; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("project", metavar="ENTITY/PROJECT")
    parser.add_argument("--dry-run", action="store_true")
    given = parser.parse_args()
    entity, _, project = given.project.partition("/")
    if not entity or not project:
        parser.error(f"{given.project!r} is not ENTITY/PROJECT")
    try:
        made = workspace(entity, project)
    except ModuleNotFoundError:
        print("error: pip install wandb-workspaces", file=sys.stderr)
        return 1
    if given.dry_run:
        told = {s.name: [p.title for p in s.panels] for s in made.sections}
        print(json.dumps(told, ensure_ascii=False, indent=2))
        return 0
    made.save()
    print(made.url)
    return 0


if __name__ == "__main__":
    sys.exit(main())
