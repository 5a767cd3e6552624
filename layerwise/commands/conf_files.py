"""Where the YAML files of the configuration are."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]

CONF = next(path for path in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if (path / "train.yaml").is_file())
"""The folder: inside the package if it is installed, beside it in a checkout."""


def choices(group: str) -> list[str]:
    """The choices of a group, such as `model`; files whose names begin with `base` hold what these share."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml") if not path.stem.startswith("base"))
