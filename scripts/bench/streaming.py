"""Memory and speed of data=stream beside data=files, on one generated file of pairs.

    python scripts/bench/streaming.py --megabytes 300

Each way runs in a process of its own: read, check and tokenize all rows, then draw batches of an
epoch. "Own memory" is the largest anonymous resident memory above that of the libraries alone, in
megabytes: pages of files, which the system can drop, do not count.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
CHARACTERS = "".join(chr(0x4E00 + 7 * i) for i in range(2000))


def write_pairs(path: Path, megabytes: int) -> int:
    """A TSV of random pairs of 10 to 40 characters; the number of rows."""
    draw, rows, left = random.Random(0), 0, megabytes * 10**6
    with open(path, "w", encoding="utf-8") as file:
        while left > 0:
            block = []
            for _ in range(1000):
                a, b = ("".join(draw.choices(CHARACTERS, k=draw.randint(10, 40))) for _ in "ab")
                block.append(f"{a}\t{b}\t{draw.randint(0, 1)}\n")
            text = "".join(block)
            file.write(text)
            left, rows = left - len(text.encode()), rows + 1000
    return rows


def anonymous() -> float:
    """Anonymous resident memory of this process, megabytes."""
    text = Path("/proc/self/status").read_text()
    return int(text.split("RssAnon:")[1].split()[0]) / 1000


class Peak(threading.Thread):
    """Samples the memory of this process until it is stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.begin = self.most = anonymous()
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.02):
            self.most = max(self.most, anonymous())


def measure(kind: str, folder: Path, batches: int) -> dict[str, float]:
    """Prepare one way and draw batches."""
    from kexue_pl.data.files import Files
    from kexue_pl.data.stream import Stream
    from kexue_pl.models import Static
    from kexue_pl.models.tokenizers import train_tokenizer

    train, valid = str(folder / "train.tsv"), str(folder / "valid.tsv")
    tokenizer = train_tokenizer([CHARACTERS], min_frequency=1)
    encoder = Static(hidden_size=4).build(tokenizer)
    peak = Peak()
    peak.start()
    begun = time.perf_counter()
    data: Any = (Stream if kind == "stream" else Files)(train=train, valid=valid, batch_size=256)
    data.cache_dir = folder / "cache"
    data.setup("fit")
    data.tokenizer = tokenizer
    data.use(encoder, joined=False)
    prepared = time.perf_counter() - begun
    if kind == "stream":
        again = time.perf_counter()
        data.use(encoder, joined=False)
        again = time.perf_counter() - again
    else:
        again = prepared
    begun = time.perf_counter()
    seen = 0
    for batch in data.train_dataloader():
        seen += len(batch["row_id"])
        if seen >= 256 * batches:
            break
    drawn = time.perf_counter() - begun
    peak.done.set()
    rows = data.rows()
    return {
        "rows": rows, "memory": peak.most - peak.begin, "prepared": rows / prepared,
        "again": again, "drawn": seen / drawn,
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--megabytes", type=int, default=300, help="size of the generated file")
    parser.add_argument("--batches", type=int, default=400, help="batches of 256 pairs to draw")
    parser.add_argument("--one", nargs=2, metavar=("KIND", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.one:
        print(json.dumps(measure(given.one[0], Path(given.one[1]), given.batches)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = write_pairs(folder / "train.tsv", given.megabytes)
        (folder / "valid.tsv").write_text("甲\t乙\t1\n丙\t丁\t0\n", encoding="utf-8")
        print(f"{rows:,} pairs, {(folder / 'train.tsv').stat().st_size / 1e6:.0f} MB\n")
        print(
            "| data | own memory, MB | bytes a pair | prepared, pairs/s | next start, s | drawn, pairs/s |"
        )
        print("|---|---|---|---|---|---|")
        for kind in ("files", "stream"):
            command = [
                sys.executable,
                __file__,
                "--one",
                kind,
                name,
                "--batches",
                str(given.batches),
            ]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            got = json.loads(out.splitlines()[-1])
            print(
                f"| {kind} | {got['memory']:.0f} | {got['memory'] * 1e6 / rows:.0f} | "
                f"{got['prepared']:,.0f} | {got['again']:.1f} | {got['drawn']:,.0f} |",
                flush=True,
            )
        stored = sum(p.stat().st_size for p in (folder / "cache").rglob("*") if p.is_file())
        print(f"\nthe tokens on disk: {stored / 1e6:.0f} MB, {stored / rows:.0f} bytes a pair")


if __name__ == "__main__":
    main()
