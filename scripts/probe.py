"""`python scripts/probe.py …` is `layerwise probe …`, under its old name."""

import sys

from layerwise.__main__ import main

if __name__ == "__main__":
    main(["probe", *sys.argv[1:]])
