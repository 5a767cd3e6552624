"""`python scripts/export.py …` is `layerwise export …`, under its old name."""

import sys

from layerwise.__main__ import main

if __name__ == "__main__":
    main(["export", *sys.argv[1:]])
