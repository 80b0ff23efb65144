"""The API reference of the library parts as HTML: python scripts/api_docs.py FOLDER

Made by pdoc from the docstrings (`pip install pdoc`); a warning of pdoc is an error.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import typing
import warnings
from pathlib import Path

PACKAGES = (
    "losses",
    "metrics",
    "balancers",
    "gradients",
    "attention",
    "penalties",
    "optim",
    "callbacks",
    "retrieval",
    "models",
    "data.base",
    "tasks.base",
)


def main() -> int:
    """Write the pages; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    try:
        import pdoc
    except ModuleNotFoundError:
        print("error: pip install pdoc", file=sys.stderr)
        return 1
    names = [f"kexue_pl.{name}" for name in PACKAGES]
    for package in names:
        module = importlib.import_module(package)
        for name in getattr(module, "__all__", ()):
            member = getattr(module, name)
            setattr(module, name, member)  # some names are imported on demand
            if hasattr(member, "_fields"):  # a named tuple's __new__ is not in our module
                member.__new__.__annotations__ = typing.get_type_hints(member)
    pdoc.render.configure(docformat="google", math=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        pdoc.pdoc(*names, output_directory=given.folder)
    print(given.folder / "index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
