"""What the scripts share that start runs of train.py and put several together."""

from __future__ import annotations

import shlex
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from layerwise.config.parse import parse
from layerwise.config.resolve import resolve
from layerwise.config.schema import Config
from layerwise.core.precision import choose_device, choose_precision
from layerwise.experiment.run import run_in_folder

ROOT = Path(__file__).resolve().parents[1]


def configuration(words: list[str]) -> Config:
    """What train.py would make of some arguments, resolved.

    Raises:
        LayerwiseError, HydraException: as train.py would report.
    """
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return resolve(parse(compose("train", words)))


def run_here(words: list[str]) -> tuple[dict[str, Any], Path]:
    """Results and folder of a run of train.py with some arguments, in this process; a finished run is only read.

    Raises:
        LayerwiseError, HydraException: as train.py would report.
    """
    config = configuration(words)
    print("$", shlex.join(["python", "train.py", *words]), file=sys.stderr, flush=True)
    device = choose_device(config.device)
    return run_in_folder(config, device, choose_precision(config.precision, device))


def call_script(script: Path, words: list[str]) -> str | None:
    """Runs a script with its progress shown; None, or the last line of what it said if it failed."""
    print("$", shlex.join(["python", str(script.relative_to(ROOT)), *words]), file=sys.stderr, flush=True)
    process = subprocess.Popen(
        [sys.executable, str(script), *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    last = ""
    assert process.stderr is not None
    interrupted = False
    while True:
        try:
            for line in process.stderr:
                print(line, end="", file=sys.stderr, flush=True)
                last = line.strip() or last
            code = process.wait()
            break
        except KeyboardInterrupt:  # the run has it, too; it saves what it has before it ends
            interrupted = True
    if interrupted or code >= 128:
        raise KeyboardInterrupt
    return None if code == 0 else f"failed ({last})"


def spread(values: list[float]) -> dict[str, Any]:
    """Mean, sample standard deviation (None for one value) and the values."""
    std = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "std": std, "values": values}


def with_spread(values: dict[str, Any]) -> str:
    """`75.5 ± 0.4`."""
    return f"{values['mean']:.2f}" + ("" if values["std"] is None else f" ± {values['std']:.2f}")
