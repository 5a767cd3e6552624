"""`python scripts/sweep.py …` is `layerwise sweep …`, under its old name."""

import sys

from layerwise.__main__ import main

if __name__ == "__main__":
    main(["sweep", *sys.argv[1:]])
