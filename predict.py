"""`python predict.py …` is `layerwise predict …`, under its old name."""

import sys

from layerwise.__main__ import main

if __name__ == "__main__":
    main(["predict", *sys.argv[1:]])
