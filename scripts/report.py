"""Table and plots of a run or a multirun: python scripts/report.py DIR"""

from __future__ import annotations

import sys
from pathlib import Path

from kexue_pl.report.sweeps import report

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python scripts/report.py RUN_OR_MULTIRUN_DIR")
    report(Path(sys.argv[1]))
