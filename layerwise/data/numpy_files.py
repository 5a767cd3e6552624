"""Tables in NumPy files, of which nothing can run code."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from layerwise.core.errors import LayerwiseError

if TYPE_CHECKING:
    import pandas as pd

LABELS = "y"
"""Array of a `.npz` file that holds the classes."""

FORMATS = "A .npy file holds one array [N, F + 1], a .npz file x [N, F] and y [N]."


def read_npy(path: Path) -> pd.DataFrame:
    """Returns the columns 0, 1, … of the one array in a file.

    Raises:
        LayerwiseError: it is damaged, or no array of numbers [N, F].
    """
    import pandas as pd

    array = _load_array(path, None, dimensions=2)
    if not array.shape[1]:
        raise LayerwiseError(f"{path}: has no columns. {FORMATS}")
    return pd.DataFrame(array, columns=[str(i) for i in range(array.shape[1])])


def read_npz(path: Path, label: str | None) -> tuple[pd.DataFrame, str]:
    """Returns the columns 0, 1, … of the array x and, as the last one, y; and the name of that one.

    Raises:
        LayerwiseError: the file is damaged, or its arrays have other shapes; or `label` names another array.
    """
    import pandas as pd

    if label not in (None, LABELS):
        raise LayerwiseError(
            f"dataset.label={label}: the labels of a .npz file are its array {LABELS}. Leave dataset.label out."
        )
    x, y = _load_array(path, "x", dimensions=2), _load_array(path, LABELS, dimensions=1)
    if len(x) != len(y):
        raise LayerwiseError(f"{path}: x has {len(x)} rows and {LABELS} has {len(y)}. Both need one for each sample.")
    frame = pd.DataFrame(x, columns=[str(i) for i in range(x.shape[1])])
    frame[LABELS] = y
    return frame, LABELS


def _load_array(path: Path, name: str | None, dimensions: int) -> NDArray[Any]:
    """Returns the array of a .npy file, or a named one of a .npz file."""
    try:
        array = _load(path, name)
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        problem = str(error.args[0] if isinstance(error, KeyError) else error).rstrip(".")
        if "allow_pickle" in problem:  # what NumPy says of everything that is not its own
            problem = "it holds Python objects, or is no NumPy file"
        raise LayerwiseError(f"{path}: cannot be read ({problem}). {FORMATS}") from error
    kinds = "biuf" if dimensions == 2 else "biufU"  # labels may be names
    if array.ndim != dimensions or array.dtype.kind not in kinds:
        raise LayerwiseError(
            f"{path}: {name or 'the array'} is {array.dtype} of shape {array.shape}; "
            f"{'numbers or names along one axis' if name == LABELS else 'numbers along two axes'} are needed. {FORMATS}"
        )
    return array


def _load(path: Path, name: str | None) -> NDArray[Any]:
    with open(path, "rb") as file:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray) == (name is None):
            array = loaded if name is None else loaded[name]
            if isinstance(array, np.ndarray):
                return array
            raise ValueError(f"its {name} is no array")
    raise ValueError(f"it has the content of a {'.npy' if isinstance(loaded, np.ndarray) else '.npz'} file")
