"""`python scripts/prepare_data.py …` is `layerwise prepare_data …`, under its old name."""

import sys

from layerwise.__main__ import main

if __name__ == "__main__":
    main(["prepare_data", *sys.argv[1:]])
