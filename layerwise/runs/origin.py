"""Which run a file belongs to: the keys that decide its numbers, and its data."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from layerwise.config.identity import identity
from layerwise.config.parse import from_yaml
from layerwise.config.resolve import resolve
from layerwise.config.resolved import ResolvedConfig
from layerwise.core.errors import LayerwiseError
from layerwise.data.dataset import DatasetSpec
from layerwise.runs.run_files import CONFIG, SPEC, read_spec

PLACES = ("dataset.path", "dataset.test_path", "dataset.root", "plan.reuse", "model.pretrained")
"""Keys that say where files lie. They may be moved, and name the user's folders; the data have a fingerprint."""


class Origin:
    """The run that a file was written by.

    Args:
        config: keys and values that decide what is computed, as JSON values.
        data: what tells its data set from others; empty where that is not known.
    """

    def __init__(self, config: dict[str, Any], data: dict[str, Any]) -> None:
        self.config, self.data = config, data
        self.digests = {self.digest}
        """Those of this run, also as earlier versions computed them; they mark the lines of metrics.jsonl."""

    @classmethod
    def of(cls, config: ResolvedConfig, spec: DatasetSpec | None) -> Origin:
        """Returns the origin of what a run writes."""
        kept = {key: value for key, value in identity(config).items() if key not in PLACES}
        data: dict[str, Any] = {}
        if spec is not None:  # of a table's digest the part that earlier versions wrote into their files
            data = {"samples": [spec.train_samples, spec.test_samples], "digest": spec.digest[:8]}
        return cls(json.loads(json.dumps(kept)), data)

    @property
    def digest(self) -> str:
        """Ten hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.as_plain(), sort_keys=True).encode()).hexdigest()[:10]

    def as_plain(self) -> dict[str, Any]:
        """Returns what is stored in a file."""
        return {"config": self.config, "data": self.data}

    def check(self, path: Path, found: Any) -> None:
        """Refuses a file of another run. Keys that only one version of this program knows do not count.

        Args:
            path: the file.
            found: what `as_plain` gave when it was written; None of an earlier version, which is taken.

        Raises:
            LayerwiseError: names the keys that differ.
        """
        if found is None:
            return
        differing = [
            f"{name}: {theirs[name]} there, {mine[name]} here"
            for theirs, mine in ((found["config"], self.config), (found["data"], self.data))
            for name in mine.keys() & theirs.keys()
            if theirs[name] != mine[name] and not (name == "digest" and "" in (theirs[name], mine[name]))
        ]
        if differing:
            raise LayerwiseError(
                f"{path} is of another run ({'; '.join(sorted(differing)[:3])}). Put this run's own file back, or "
                "delete this one: the command then computes it again."
            )
        self.digests.add(Origin(found["config"], found["data"]).digest)


def origin_of(folder: Path) -> Origin:
    """Returns the origin of the files in a run folder, from its configuration and data set.

    Raises:
        LayerwiseError: the configuration cannot be read.
    """
    config = resolve(from_yaml(folder / CONFIG))
    try:
        spec = read_spec(folder / SPEC)
    except LayerwiseError:  # whoever needs it says so
        spec = None
    return Origin.of(config, spec)
