"""Search of settings: python scripts/tune.py --study DIR task=TASK 'optimizer.lr=interval(1e-4,1e-2)' ..."""

import sys

from kexue_pl.tune.cli import main

if __name__ == "__main__":
    sys.exit(main())
