"""Whether the code of other packages that a run uses is still that which it began with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from layerwise.config.schema import Config
from layerwise.runs.run_files import CODE, read_object

Records = dict[str, dict[str, Any]]
"""By place in the configuration, what tells this code from other code (`Outside.record`)."""


def code_of(config: Config) -> Records:
    """Returns the records of a configuration's functions of other packages, which it imports."""
    return {place: own.record() for place, own in config.outside.items()}


def warn_of_changed_code(folder: Path, code: Records) -> None:
    """Names each function whose source is another than when the run in a folder began.

    Raises:
        LayerwiseError: the record in the folder cannot be read.
    """
    before = read_object(folder / CODE, "Remove it: the code is then not compared.") or {}
    for place in sorted(code.keys() & before.keys()):
        now, then = code[place], before[place]
        if now["sha256"] != then.get("sha256"):
            versions = f" (version {then.get('version')} there, {now['version']} here)" if now["version"] else ""
            print(
                f"warning: {place}._target_={now['target']}: its package has changed since {folder} began{versions}. "
                "Finished stages are kept as they are; fresh=true starts over.",
                file=sys.stderr,
            )
