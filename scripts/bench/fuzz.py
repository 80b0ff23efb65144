"""Throw generated input at the readers and the prefix index, and print what came of it.

    python scripts/bench/fuzz.py --examples 10000

The inputs are shared equally by the checks of ``tests/faults/fuzzing.py``. Exit code 1 where a
check failed; the smallest input that fails is shown.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, given, seed, settings

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def run(name: str, examples: int, number: int) -> tuple[Counter[bool], Exception | None]:
    """Outcomes of ``examples`` inputs of one check (accepted or refused), and what failed."""
    from tests.faults.fuzzing import CHECKS

    inputs, check = CHECKS[name]
    seen: Counter[bool] = Counter()

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs)
    def one(case: object) -> None:
        seen[check(case)] += 1

    try:
        one()
    except Exception as error:
        return seen, error
    return seen, None


def main(arguments: list[str] | None = None) -> int:
    """Command line; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--examples", type=int, default=10_000, help="inputs of all checks together"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the inputs")
    given_ = parser.parse_args(arguments)
    logging.disable(logging.WARNING)  # counts of rows that were left out, once an input
    from tests.faults.fuzzing import CHECKS

    share = -(-given_.examples // len(CHECKS))
    started, total, failed = time.perf_counter(), 0, 0
    print("| input | examples | accepted | refused with a typed error | failed |")
    print("|---|---|---|---|---|")
    for name in CHECKS:
        seen, error = run(name, share, given_.seed)
        total += sum(seen.values())
        failed += error is not None
        row = (name, sum(seen.values()), seen[True], seen[False], int(error is not None))
        print("| " + " | ".join(map(str, row)) + " |", flush=True)
        if error is not None:
            traceback.print_exception(error)
    print(f"{total} inputs, {failed} checks failed, {time.perf_counter() - started:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
