"""What the prefix index costs on synthetic triples, and what its peers cost.

    python scripts/bench/prefix_index.py              # 20.56M triples, and 1.03M beside the peers
    python scripts/bench/prefix_index.py --scale 0    # the latter alone
    python scripts/bench/prefix_index.py --folder F   # keeps the files; a second run does not build again

TSV to index on one core, its peak memory and size, loading, and a step of 32 questions with 5 beams each
(allowed tokens, then the chosen children), whose beams take any child with the same chance or, as "by rows",
popular ones more often. Each stage has a process of its own. Times are processor time, the median of repeats.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kexue_pl.retrieval import Lookahead, PrefixIndex, Strings
from kexue_pl.retrieval.beam_search import best_per_group
from kexue_pl.retrieval.beam_state import BeamState

QUESTIONS, BEAMS, STEPS, WALKS, LOOKS = 32, 5, 10, 40, 8
GATES = {
    "build": (90.0, "s"), "peak": (2500.0, "MB"), "disk": (350.0, "MB"), "load": (50.0, "ms"),
    "step 0": (1500.0, "us"), "step 1": (1500.0, "us"), "steps 2-9": (50.0, "us"),
    "lookahead": (150.0, "us"),
}  # fmt: skip
STEP_GATES = {name: gate for name, gate in GATES.items() if gate[1] == "us"}
SMALL_GATES = {"build": (10.0, "s"), "disk": (20.0, "MB")}


def peak_mb() -> float:
    """Largest resident set of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def make(folder: Path, scale: float) -> dict[str, float]:
    """The base as TSV, and a vocabulary of its characters."""
    from make_synthetic_kb import ALPHABET, write

    from kexue_pl.models.tokenizers import train_tokenizer

    rows = write(folder / "base.tsv", scale=scale)
    characters = "".join(chr(0x4E00 + i) for i in range(ALPHABET)) + "（）"
    tokenizer = train_tokenizer([characters], vocab_size=60_000, min_frequency=1)
    tokenizer.save_pretrained(folder / "tokenizer")
    return {"rows": rows, "tsv": (folder / "base.tsv").stat().st_size / 1e6}


def build(folder: Path) -> dict[str, float]:
    """TSV to a stored index with texts and values."""
    from transformers import AutoTokenizer

    from kexue_pl.models.loading import load_pretrained
    from kexue_pl.retrieval.encode import encoder_of, fingerprint
    from kexue_pl.retrieval.triples import index_file

    tokenizer = load_pretrained(AutoTokenizer, str(folder / "tokenizer"), key="tokenizer")
    start, before = time.process_time(), peak_mb()
    index = index_file(
        folder / "base.tsv", encoder_of(tokenizer),
        separator=tokenizer.sep_token_id, tokenizer=fingerprint(tokenizer),
    )  # fmt: skip
    index.save(folder / "index")
    spent = time.process_time() - start
    size = {name: array.nbytes / 1e6 for name, array in index.arrays.items()}
    values = sum(mb for name, mb in size.items() if name.startswith("value"))
    return {
        "build": spent, "peak": peak_mb(), "before": before, "values": values,
        "disk": sum(size.values()) - values,
    }  # fmt: skip


def thread_us(call: Callable[[], Any]) -> tuple[float, Any]:
    """Microseconds of processor time of one call, and what it gave."""
    start = time.thread_time_ns()
    out = call()
    return (time.thread_time_ns() - start) / 1e3, out


def query(folder: Path, compiled: bool) -> dict[str, float]:
    """Loading and steps of beams, by numpy passes or by compiled loops."""
    before = peak_mb()
    loads = [thread_us(lambda: PrefixIndex.load(folder / "index"))[0] / 1e3 for _ in range(5)]
    out = {"load": float(np.median(loads)), "mapped": peak_mb() - before}
    index = PrefixIndex.load(folder / "index")
    if compiled:
        index.compile()
        walk(index, np.random.default_rng(1), 0.0)
        lookahead(index, np.random.default_rng(1), 0.0)
        index = PrefixIndex.load(folder / "index").compile()
    first, _ = thread_us(lambda: index.allowed(index.start(1)))
    rng = np.random.default_rng(0)
    out["tables"] = first / 1e3
    for name, power in (("", 0.0), (", by rows", 1.0)):
        walks = np.array([walk(index, rng, power) for _ in range(WALKS)])
        out |= {f"step {i}{name}": float(np.median(walks[:, i])) for i in (0, 1)}
        out[f"steps 2-9{name}"] = float(np.median(walks[:, 2:]))
        looks = np.array([lookahead(index, rng, power) for _ in range(LOOKS)])
        out |= dict(
            zip((f"lookahead{name}", f"keys below{name}"), np.median(looks, 0), strict=True)
        )
    return out | {"grown": peak_mb() - before}


def walk(index: PrefixIndex, rng: np.random.Generator, power: float) -> list[float]:
    """Microseconds of each step of 32 questions with 5 beams.

    A beam takes a child drawn by (rows below it) ** ``power``; the place of a finished beam is taken by
    another, so that 160 are alive throughout.
    """
    state, times = index.start(QUESTIONS), []
    for step in range(STEPS):
        us, children = thread_us(lambda: index.allowed(state))  # noqa: B023
        chance = power * np.log(children.counts) + rng.gumbel(size=len(children.token))
        picks = best_per_group(children.beam, chance, BEAMS if step == 0 else 1)
        more, state = thread_us(lambda: index.choose(state, children, picks))  # noqa: B023
        times.append(us + more)
        live = np.flatnonzero(state.segment < index.segments)
        state = state.take(np.sort(np.resize(live, QUESTIONS * BEAMS)))
    return times


def lookahead(index: PrefixIndex, rng: np.random.Generator, power: float) -> tuple[float, int]:
    """Microseconds of the exponents of 160 beams with a whole name, and of carrying them on; the keys below.

    A name is drawn by (rows below it) ** ``power``, 0 or 1.
    """
    size = QUESTIONS * BEAMS
    rows = index.indptr[rng.integers(index.base[1], size=size)]
    if power:
        rows = rng.integers(len(index), size=size)
    keys = [index.key(int(row)) for row in rows]
    question = np.repeat(np.arange(QUESTIONS), BEAMS)
    texts = [keys[i * BEAMS][:20] for i in range(QUESTIONS)]
    look = Lookahead(Strings.of(texts), int(index.tok.max()) + 1)
    names = [key[: key.index(index.separator) + 1] for key in keys]
    found = [index.find(name) for name in names]
    state = BeamState.concatenate([s for s in found if s is not None])
    children, carried = index.allowed(state), look.start(question)
    token = np.full(len(question), index.separator)
    times = []
    for _ in range(LOOKS):
        us, _ = thread_us(lambda: look.exponents(index, state, children, question, carried))
        more, _ = thread_us(lambda: look.advance(carried, question, token))
        times.append(us + more)
    return float(np.median(times)), int((state.hi - state.lo).sum())


def child(folder: Path, what: str, *extra: str) -> dict[str, float]:
    """Figures of one stage, measured in a process of its own."""
    call = [sys.executable, __file__, "--stage", what, "--folder", str(folder), *extra]
    text = subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, float] = json.loads(text.splitlines()[-1])
    return found


def report(figures: dict[str, float], gates: dict[str, tuple[float, str]]) -> None:
    """One row a gate, then what has none."""
    print("| what | measured | at most | |")
    print("|---|---|---|---|")
    for name, (most, unit) in gates.items():
        mark = "ok" if figures[name] <= most else "MISSED"
        print(f"| {name} | {figures[name]:.1f} {unit} | {most:g} {unit} | {mark} |")
    rest = {k: round(v, 1) for k, v in figures.items() if k not in gates}
    print(f"besides: {rest}\n", flush=True)


def measured(scale: float, folder: Path) -> dict[str, float]:
    """All figures of one size; an index that is there already is not built again."""
    kept = folder / "figures.json"
    if kept.is_file():
        figures = dict(json.loads(kept.read_text(encoding="utf-8")))
        print("index of an earlier run, with the figures of its building")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        figures = child(folder, "make", "--scale", str(scale))
        figures |= child(folder, "build")
        kept.write_text(json.dumps(figures), encoding="utf-8")
    print(f"{figures['rows']:,.0f} triples, {figures['tsv']:.0f} MB of TSV", flush=True)
    return figures | child(folder, "query")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scale", type=float, default=1.0, help="1: 20.56M triples; 0: none")
    parser.add_argument(
        "--peers", type=float, default=0.05, help="scale of the comparison; 0: none"
    )
    parser.add_argument("--folder", type=Path, help="keeps the files; a temporary one if none")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    given = parser.parse_args()
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent / "peers")]
    if given.stage:
        print(json.dumps(stage(given)))
        return
    with tempfile.TemporaryDirectory() as work:
        folder = given.folder or Path(work)
        if given.scale:
            large = folder / f"scale_{given.scale:g}"
            report(measured(given.scale, large), GATES)
            print("the same by compiled loops (extra fast)\n")
            report(child(large, "compiled"), STEP_GATES)
        if given.peers:
            small = folder / f"scale_{given.peers:g}"
            ours = measured(given.peers, small)
            report(ours, SMALL_GATES)
            compare(ours, small)


def stage(given: argparse.Namespace) -> dict[str, float]:
    """What a child process measures."""
    if given.stage == "make":
        return make(given.folder, given.scale)
    if given.stage == "build":
        return build(given.folder)
    if given.stage in ("query", "compiled"):
        return query(given.folder, given.stage == "compiled")
    from prefix_trees import measure

    return dict(measure(given.stage, given.folder, walks=WALKS // 4, beams=QUESTIONS * BEAMS))


def compare(ours: dict[str, float], folder: Path) -> None:
    """The peers on the same keys."""
    from prefix_trees import PEERS

    print("| | build s | memory MB | disk MB | load s | step 0 us | step 1 us | steps 2-9 us |")
    print("|---|---|---|---|---|---|---|---|")
    mine = {**ours, "memory": ours["mapped"], "load": ours["load"] / 1e3}
    for name in ("PrefixIndex", *PEERS):
        row = mine if name == "PrefixIndex" else child(folder, name)
        columns = ("build", "memory", "disk", "load", "step 0", "step 1", "steps 2-9")
        cells = " | ".join(f"{row[c]:.4g}" if c in row else "-" for c in columns)
        print(f"| {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
