"""Runs every benchmark of this folder, one after the other, and writes docs/benchmarks.md.

    python scripts/bench/all.py                     # about an hour on 2 cores; leave the machine alone
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
    "marisa-trie",
    "scipy",
    "numpy",
)


def benchmarks() -> list[Path]:
    """The scripts of this folder, this one apart."""
    return sorted(path for path in HERE.glob("*.py") if path.name != Path(__file__).name)


def command(path: Path) -> list[str] | None:
    """How a benchmark is called; None if it needs data that is not here."""
    words = [f"scripts/bench/{path.name}"]
    if path.stem == "sts":
        data = os.environ.get("KEXUE_DATA")
        if data is None:
            return None
        words.append(str(Path(data) / "matching"))
    return words


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
    told = "\n".join(line for line in rest.strip().splitlines() if not line.startswith("    "))
    words = command(path)
    head = f"## {title.rstrip('.')}\n\n{told.strip()}\n"
    if words is None:
        return f"{head}\nNot run: needs KEXUE_DATA.\n", True
    print(" ".join(["python", *words]), flush=True)
    started = time.time()
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=env, capture_output=True, text=True
    )
    print(f"  {time.time() - started:.0f} s, exit code {done.returncode}", flush=True)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        return f"{head}\nFailed with exit code {done.returncode}.\n", False
    shown = words[:1] if path.stem != "sts" else [*words[:1], "FOLDER"]
    return f"{head}\n`python {' '.join(shown)}`\n\n{done.stdout.strip()}\n", True


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
