"""A checkpoint for sentence-transformers: python scripts/export.py checkpoint=RUN output=FOLDER"""

import sys

from kexue_pl.export.cli import main

if __name__ == "__main__":
    sys.exit(main())
