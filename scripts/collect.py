"""`python scripts/collect.py …` is `layerwise collect …`, under its old name."""

import sys

from layerwise.__main__ import main

if __name__ == "__main__":
    main(["collect", *sys.argv[1:]])
