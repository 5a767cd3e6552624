"""`python scripts/cross_validate.py …` is `layerwise cross_validate …`, under its old name."""

import sys

from layerwise.__main__ import main

if __name__ == "__main__":
    main(["cross_validate", *sys.argv[1:]])
