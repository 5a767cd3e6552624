"""The run as a W&B run."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from layerwise.core.errors import LayerwiseError
from layerwise.core.files import write_atomically
from layerwise.reporting.loggers.base import Beginning
from layerwise.reporting.loggers.content import (
    QUALITIES,
    block_table,
    new_scores,
    place_of,
    scalars_by_place,
    scores,
    speed,
    summary,
)
from layerwise.reporting.samples import caption, read_samples
from layerwise.runs.run_files import ENDED_EARLY

if TYPE_CHECKING:
    import wandb

FOLDER, SENT = "wandb", "run.json"
"""The folder of W&B's files in the run folder, and our file in it: the W&B run's id, and what has been sent."""


@dataclass
class WandbRun:
    """A `Logger`. One W&B run shows the run folder, however often the run was interrupted.

    Args:
        mode: online or offline; what was sent in one is not sent in the other.
    """

    project: str
    entity: str | None
    group: str
    job_type: str
    name: str
    tags: list[str]
    mode: str
    artifacts: bool
    note: Callable[[str], None]
    init_seconds: float = 30.0

    def is_complete(self, folder: Path) -> bool:
        return bool(self._sent(_read(folder)).get("completed"))

    def begin(self, beginning: Beginning) -> None:
        self._folder = beginning.folder
        self._known = _read(self._folder)
        self._known.setdefault("id", secrets.token_hex(4))
        if unfinished := self._known.pop("unfinished", None):  # its process was killed; all of it is sent again
            shutil.rmtree(self._folder / FOLDER / unfinished, ignore_errors=True)
        self._run = self._open(beginning)
        if self.mode == "offline":
            self._known["unfinished"] = Path(self._run.dir).parent.name
        self._save()
        sent = self._sent(self._known)
        self._step, self._stages = (  # the server knows what came from another machine
            max(sent.get(name, 0), int(self._run.summary.get(name) or 0)) for name in ("step", "stages")
        )
        self._define_metrics()
        self._ends: dict[int, dict[str, Any]] = {}  # by stage, its last line
        for line in beginning.lines:
            self.epoch(line)

    def epoch(self, line: dict[str, Any]) -> None:
        self._ends[line["stage"]] = line
        if line["step"] <= self._step:
            return
        by_place = scalars_by_place(line)
        row = {"step": line["step"], "stage": line["stage"], "block": line["block"], "epoch": line["epoch"]}
        row |= by_place[place_of(line)] | speed(line)
        if [*by_place] != [f"block_{line['block']}"]:
            row |= {f"{name}/{place}": value for place, values in by_place.items() for name, value in values.items()}
        self._run.log(row)
        self._step = line["step"]

    def stage(self, results: dict[str, Any]) -> None:
        for entry in results["stages"][self._stages :]:
            self._run.log({"step": self._step, "stages": entry["stage"]} | new_scores(entry, self._ends))
            self._stages = entry["stage"]

    def end(self, results: dict[str, Any] | None) -> None:
        status = None if results is None else results["status"]
        if results is not None:
            self.stage(results)
            self._run.summary.update(summary(results))
            if status == "completed":
                self._log_depths(results)
                self._log_classes(results.get("classification") or {})
                self._log_samples((results.get("classification") or {}).get("classes", []))
                if self.artifacts:
                    self._log_artifact()
            elif status == "interrupted":
                self._run.mark_preempting()
        self._run.finish(exit_code=0 if status in ("completed", ENDED_EARLY) else 1)
        log = Path(self._run.dir).parent / "logs" / "debug-internal.log"
        if log.exists() and "no space left" in log.read_text(errors="replace"):  # W&B says so nowhere else
            raise LayerwiseError(f"no space left for {log.parents[2]}")
        self._known.pop("unfinished", None)
        self._known[self.mode] = {"step": self._step, "stages": self._stages, "completed": status == "completed"}
        self._save()  # only now: before, nothing was certain to be on the disk or at the server
        if self.mode == "offline":
            files = f"{shlex.quote(str(self._folder.resolve() / FOLDER))}/offline-run-*-{self._known['id']}"
            self.note(f"to upload it to W&B: wandb sync {files}")

    def abandon(self) -> None:
        """Ends W&B's service, for which Python would wait as it exits."""
        for process in psutil.Process().children():
            if process.name().startswith("wandb-core"):
                process.kill()
                os.environ.pop("WANDB_SERVICE", None)  # the next job of a multirun would look for it
        if "wandb" in sys.modules:
            sys.modules["wandb"].teardown()

    def _define_metrics(self) -> None:
        """The x axes, and what the summary has: of curves nothing but the best training, beside `content.summary`."""
        self._run.define_metric("step", hidden=True)
        for name in ("stages", *(f"validation/{measure}" for measure in QUALITIES)):  # sweeps read the last one
            self._run.define_metric(name, step_metric="step")
        for name, best in (("loss", "min"), ("top1", "max"), ("r2", "max"), ("mae", "min")):
            self._run.define_metric(f"train/{name}", step_metric="step", summary=best)
        self._run.define_metric("*", step_metric="step", summary="none")
        self._run.define_metric("depth/*", step_metric="depth_block", summary="none")

    def _log_depths(self, results: dict[str, Any]) -> None:
        """Accuracy over depth as a curve, which compares runs, and all figures of each depth as a table."""
        import wandb

        for row in results["blocks"]:
            values = {f"depth/{name.replace('/', '_')}": value for name, value in scores(row).items()}
            self._run.log({"step": self._step, "depth_block": row["block"], **values})
        columns, rows = block_table(results)
        table = wandb.Table(columns=list(columns), data=list(rows))
        self._run.log({"step": self._step, "blocks": table})

    def _log_classes(self, classification: dict[str, Any]) -> None:
        """The confusion matrix, in W&B's own chart for it."""
        import wandb

        matrix = classification.get("confusion_matrix")
        if matrix is None:
            return
        names = classification["classes"]
        counts: list[Any] = [[names[i], names[j], n] for i, row in enumerate(matrix) for j, n in enumerate(row)]
        fields = {name: name for name in ("Actual", "Predicted", "nPredictions")}
        table, title = wandb.Table(columns=list(fields), data=counts), {"title": "Confusion matrix"}
        chart = wandb.plot_table("wandb/confusion_matrix/v1", table, fields, title)
        self._run.log({"step": self._step, "confusion_matrix": chart})

    def _log_samples(self, classes: list[str]) -> None:
        """Test images with each depth's answer."""
        import wandb

        samples = read_samples(self._folder)
        if samples is None:
            return
        pictures = [
            wandb.Image(image.squeeze(-1).numpy(), caption=caption(samples, i, classes))
            for i, image in enumerate(samples.images)
        ]
        self._run.log({"step": self._step, "samples": pictures})

    def _log_artifact(self) -> None:
        """The files that `layerwise.load` needs."""
        import wandb

        artifact = wandb.Artifact(f"network-{self._known['id']}", type="model")
        artifact.add_dir(str(self._folder / "checkpoints"), name="checkpoints")
        for name in ("config.yaml", "dataset.json", "results.json"):
            artifact.add_file(str(self._folder / name))
        self._run.log_artifact(artifact)

    def _open(self, beginning: Beginning) -> wandb.Run:
        import wandb

        wandb.setup(wandb.Settings(silent=True))
        if self.mode == "online" and not wandb.login(prompt=False, verify=False):
            raise LayerwiseError("no account is set up on this machine (`wandb login` does it)")
        return wandb.init(
            dir=str(self._folder),
            mode=self.mode,  # type: ignore[arg-type]
            id=self._known["id"],
            resume="allow",
            config={**beginning.config, **_beginning(beginning), **beginning.facts},
            settings=wandb.Settings(console="off", silent=True, init_timeout=self.init_seconds),
            project=self.project,
            entity=self.entity,
            group=self.group,
            job_type=self.job_type,
            name=self.name,
            tags=self.tags,
        )

    def _sent(self, known: dict[str, Any]) -> dict[str, Any]:
        """The part of `SENT` about this mode; earlier versions knew one."""
        sent: dict[str, Any] = known.get(self.mode, known)
        return sent

    def _save(self) -> None:
        content = json.dumps(self._known) + "\n"
        (self._folder / FOLDER).mkdir(exist_ok=True)
        write_atomically(self._folder / FOLDER / SENT, content, kept="The run is intact.", makes_folder=False)


def _beginning(beginning: Beginning) -> dict[str, Any]:
    """The run folder, the command that began the run, and the keys that it gave."""
    words = shlex.split(beginning.command)
    overrides = [word for word in words[2:] if "=" in word]
    return {"run_folder": str(beginning.folder.resolve()), "command": beginning.command, "overrides": overrides}


def mode_of(configured: str) -> str:
    """`logger.wandb.mode`; WANDB_MODE comes before `online`."""
    return os.environ.get("WANDB_MODE", "online") if configured == "online" else configured


def _read(folder: Path) -> dict[str, Any]:
    """What is known of the folder's W&B run; of a sweep that is the one that the sweep's agent has begun."""
    try:
        known: dict[str, Any] = json.loads((folder / FOLDER / SENT).read_text())
    except (OSError, ValueError):
        known = {}
    asked = os.environ.get("WANDB_RUN_ID") if "WANDB_SWEEP_ID" in os.environ else None
    return known if asked in (None, known.get("id")) else {"id": asked}
