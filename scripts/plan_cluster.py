"""`python scripts/plan_cluster.py …` is `layerwise plan_cluster …`, under its old name."""

import sys

from layerwise.__main__ import main

if __name__ == "__main__":
    main(["plan_cluster", *sys.argv[1:]])
