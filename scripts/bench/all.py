"""Runs every benchmark of this folder, one after the other, and writes docs/benchmarks.md.

    python scripts/bench/all.py                     # about 40 minutes on 2 cores; leave the machine alone
    python scripts/bench/all.py --only matching penalties      # these anew, the others as they were

Each benchmark compares its sides in one run and prints Markdown; what it printed is what the page
holds, with its docstring's account of how it was measured. The exit code is 1 if one failed.
"""

from __future__ import annotations

import argparse
import ast
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PEERS = (
    "torch",
    "lightning",
    "transformers",
    "sentence-transformers",
    "torchjd",
    "LibMTL",
    "marisa-trie",
    "scipy",
    "numpy",
    "numba",
)
DATA, PAIRS = "KEXUE_DATA", "FOLDER"
CALLS = {
    "matching": [["--epoch", "0"]],  # the epoch is in matching_training
    "step_size": [[], ["--transformer"]],
    "sts": [[PAIRS]],
}
"""What a benchmark is called with, once for each list of words; PAIRS is matching/ of the data."""


def benchmarks() -> list[Path]:
    """The scripts of this folder, this one apart."""
    return sorted(path for path in HERE.glob("*.py") if path.name != Path(__file__).name)


def commands(path: Path) -> list[list[str]]:
    """How a benchmark is called; never if it needs data that is not here."""
    folder = Path(os.environ.get(DATA, "")) / "matching"
    calls = CALLS.get(path.stem, [[]])
    if DATA not in os.environ:
        calls = [words for words in calls if PAIRS not in words]
    return [[str(folder) if word == PAIRS else word for word in words] for words in calls]


def machine() -> str:
    """Processor, cores, Python and the versions of both sides."""
    told = []
    for name in PEERS:
        try:
            told.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            told.append(f"{name} not installed")
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text().splitlines()
        model = next((x.partition(": ")[2] for x in lines if x.startswith("model name")), model)
    return (
        f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}; {', '.join(told)}."
    )


def section(path: Path) -> tuple[str, bool]:
    """Run a benchmark; its part of the page, and whether it ended well."""
    about = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or path.stem
    title, _, rest = about.partition("\n")
    told = "\n".join(line for line in rest.splitlines() if not line.startswith("    "))
    parts = [f"## {title.rstrip('.')}", told.strip()]
    calls = commands(path)
    if not calls:
        return "\n\n".join([*parts, f"Not run: needs {DATA}."]) + "\n", True
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    for words in calls:
        call = [f"scripts/bench/{path.name}", *words]
        print(" ".join(["python", *call]), flush=True)
        started = time.time()
        done = subprocess.run(
            [sys.executable, *call], cwd=ROOT, env=env, capture_output=True, text=True
        )
        print(f"  {time.time() - started:.0f} s, exit code {done.returncode}", flush=True)
        shown = [PAIRS if Path(word).is_dir() else word for word in words]
        parts += [f"`python {' '.join([call[0], *shown])}`", done.stdout.strip()]
        if done.returncode:
            print(done.stderr[-2000:], file=sys.stderr)
            return "\n\n".join([*parts, f"Failed: exit code {done.returncode}."]) + "\n", False
    return "\n\n".join(parts) + "\n", True


def main() -> int:
    """Run and write; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", help="names of benchmarks, without .py")
    parser.add_argument("--work", type=Path, default=ROOT / "outputs" / "bench")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks.md")
    given = parser.parse_args()
    chosen = [path for path in benchmarks() if not given.only or path.stem in given.only]
    if given.only and (unknown := set(given.only) - {path.stem for path in chosen}):
        parser.error(
            f"no benchmark {', '.join(sorted(unknown))}; there are {[p.stem for p in benchmarks()]}"
        )
    given.work.mkdir(parents=True, exist_ok=True)
    sound = True
    for path in chosen:
        text, well = section(path)
        (given.work / f"{path.stem}.md").write_text(text, encoding="utf-8")
        sound = sound and well
    kept = [given.work / f"{path.stem}.md" for path in benchmarks()]
    parts = [path.read_text(encoding="utf-8") for path in kept if path.is_file()]
    told = "One thread unless said otherwise. Written by `python scripts/bench/all.py`."
    head = f"# Benchmarks\n\n{machine()} {told}\n"
    given.out.write_text("\n".join([head, *parts]), encoding="utf-8")
    print(given.out)
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
