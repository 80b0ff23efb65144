"""Scores of pairs, embeddings, neighbours: python scripts/predict.py checkpoint=RUN input=FILE ..."""

import sys

from kexue_pl.predict.cli import main

if __name__ == "__main__":
    sys.exit(main())
