"""`python scripts/make_figures.py …` is `layerwise figures …`, under its old name."""

import sys

from layerwise.__main__ import main

if __name__ == "__main__":
    main(["figures", *sys.argv[1:]])
