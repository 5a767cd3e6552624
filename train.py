"""`python train.py …` is `layerwise train …`, under its old name."""

import sys

from layerwise.__main__ import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
