"""`python scripts/anytime.py …` is `layerwise anytime …`, under its old name."""

import sys

from layerwise.__main__ import main

if __name__ == "__main__":
    main(["anytime", *sys.argv[1:]])
