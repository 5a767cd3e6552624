"""`python scripts/make_report.py …` is `layerwise report …`, under its old name."""

import sys

from layerwise.__main__ import main

if __name__ == "__main__":
    main(["report", *sys.argv[1:]])
