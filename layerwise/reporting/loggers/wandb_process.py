"""The process that talks to W&B, started by `wandb_run.WandbRun`.

It reads what happens in the run from its standard input, a JSON object a line, and writes there what the user should
know. W&B keeps services, threads and hooks, waits for its server, and ends loudly when its service dies; nothing of
this reaches the training. It also outlives a run that is killed, and closes its log.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import wandb
from wandb.errors import CommError, UsageError

from layerwise.reporting.loggers.content import HELD_OUT, block_table, scalars_by_block, scores, speed, summary

STATE = "run.json"
"""The file beside W&B's own that makes a resumed run the same W&B run."""


class State:
    """What W&B has been told of a run by earlier processes.

    Args:
        folder: `wandb` in the run folder.

    Attributes:
        id: of the W&B run.
        step: of the last epoch that was logged.
        stages: that were logged.
        completed: whether the run's end was.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / STATE
        try:
            known = json.loads(self._path.read_text())
        except (OSError, ValueError):
            known = {}
        self.id: str = known.get("id") or secrets.token_hex(4)
        self.step: int = known.get("step", 0)
        self.stages: int = known.get("stages", 0)
        self.completed: bool = known.get("completed", False)

    def save(self) -> None:
        """Writes the file, atomically."""
        known = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps(known) + "\n")
        temporary.replace(self._path)


class Session:
    """One W&B run, fed with the events of a run.

    Args:
        begin: the settings of `wandb_run.WandbRun`, and its `Beginning` as plain values.
        out: where notes and warnings go.
    """

    def __init__(self, begin: Mapping[str, Any], out: TextIO) -> None:
        self._begin, self._out = begin, out
        self._folder = Path(begin["folder"])
        self._state = State(self._folder / "wandb")
        self._state.save()
        self._run = self._open()
        self._state.step = max(self._state.step, int(self._run.summary.get("step") or 0))  # of the server, if online
        self._state.stages = max(self._state.stages, int(self._run.summary.get("stages") or 0))
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")
        self._run.define_metric("depth/*", step_metric="depth_block")
        for line in begin["lines"]:
            self.epoch(line)

    def epoch(self, line: dict[str, Any]) -> None:
        if line["step"] <= self._state.step:
            return
        by_block = scalars_by_block(line)
        row = {"step": line["step"], "stage": line["stage"], "block": line["block"], "epoch": line["epoch"]}
        row |= by_block[line["block"]] | speed(line)
        for block, values in by_block.items():
            row |= {f"{name}/block_{block}": value for name, value in values.items()} if len(by_block) > 1 else {}
        self._run.log(row)
        self._state.step = line["step"]

    def stage(self, results: dict[str, Any]) -> None:
        for entry in results["stages"][self._state.stages :]:
            self._run.log({"step": self._state.step, "stages": entry["stage"]} | scores(entry, HELD_OUT))
            self._state.stages = entry["stage"]

    def end(self, results: dict[str, Any] | None) -> None:
        if results is None:
            self._finish(exit_code=1)
            return
        self.stage(results)
        self._run.summary.update(summary(results))
        if results["status"] == "completed" and not self._state.completed:
            self._log_depths(results)
            self._log_classes(results.get("classification") or {})
            if self._begin["artifacts"]:
                self._log_artifact()
            self._state.completed = True
        if results["status"] == "interrupted":
            self._run.mark_preempting()
        self._finish(exit_code=0 if results["status"] == "completed" else 1)

    def _finish(self, exit_code: int) -> None:
        self._run.finish(exit_code=exit_code)
        self._state.save()  # now it is on the disk or at the server
        if self._run.settings.mode == "offline" and exit_code == 0:
            self._say("note", f"to upload it to W&B: {self._sync_command()}")

    def _log_depths(self, results: dict[str, Any]) -> None:
        """Accuracy over depth as a curve, which compares runs, and all of each depth as a table."""
        for row in results["blocks"]:
            values = {f"depth/{name.replace('/', '_')}": value for name, value in scores(row).items()}
            self._run.log({"step": self._state.step, "depth_block": row["block"], **values})
        columns, rows = block_table(results)
        self._run.log({"step": self._state.step, "blocks": wandb.Table(columns=list(columns), data=rows)})

    def _log_classes(self, classification: dict[str, Any]) -> None:
        """The confusion matrix, in W&B's own chart for it."""
        matrix = classification.get("confusion_matrix")
        if matrix is None:
            return
        names = classification["classes"]
        counts = [[names[i], names[j], n] for i, row in enumerate(matrix) for j, n in enumerate(row)]
        fields = {name: name for name in ("Actual", "Predicted", "nPredictions")}
        chart = wandb.plot_table(
            "wandb/confusion_matrix/v1",
            wandb.Table(columns=list(fields), data=counts),
            fields,
            {"title": "Confusion matrix"},
        )
        self._run.log({"step": self._state.step, "confusion_matrix": chart})

    def _log_artifact(self) -> None:
        """The files that `layerwise.load` needs."""
        artifact = wandb.Artifact(f"network-{self._state.id}", type="model")
        artifact.add_dir(str(self._folder / "checkpoints"), name="checkpoints")
        for name in ("config.yaml", "dataset.json", "results.json"):
            artifact.add_file(str(self._folder / name))
        self._run.log_artifact(artifact)

    def _open(self) -> wandb.Run:
        """Opens the run; without an account or a server offline, and says how to upload it."""
        mode = self._begin["mode"]
        if mode == "online":
            mode = os.environ.get("WANDB_MODE", mode)
        if mode == "online":
            problem = "no account is set up on this machine (`wandb login` does it)"
            try:
                if wandb.login(prompt=False, verify=False):
                    return self._init("online")
            except (CommError, UsageError) as error:  # also a key that the server refuses
                problem = str(error).strip().splitlines()[0]
                wandb.teardown()  # it holds on to the id
            run = self._init("offline")
            self._say("warning", f"logger=wandb: {problem}; logged offline, to upload it: {self._sync_command()}")
            return run
        return self._init(mode)

    def _init(self, mode: Any) -> wandb.Run:
        begin = self._begin
        return wandb.init(
            dir=str(self._folder),
            mode=mode,
            id=self._state.id,
            resume="allow",
            project=begin["project"],
            entity=begin["entity"],
            group=begin["group"],
            job_type=begin["job_type"],
            name=begin["name"],
            tags=begin["tags"],
            config={**begin["config"], "run_folder": str(self._folder.resolve()), **begin["facts"]},
            settings=wandb.Settings(
                console="off",
                init_timeout=begin["init_seconds"],
                finish_timeout=begin["finish_seconds"],
                program=begin["program"],
                x_stats_pid=begin["pid"],  # the training's load, not ours
            ),
        )

    def _sync_command(self) -> str:
        folder = shlex.quote(str(self._folder.resolve() / "wandb"))
        return f"wandb sync {folder}/offline-run-*-{self._state.id}"

    def _say(self, kind: str, text: str) -> None:
        print(json.dumps({kind: text}), file=self._out, flush=True)


def serve(events: TextIO, out: TextIO) -> None:
    """Reads events until the run has ended, or its process has.

    Args:
        events: a JSON object a line: `begin`, then `epoch` and `stage`, then `end`.
        out: gets a JSON object a line: `note` or `warning`.
    """
    session: Session | None = None
    for text in events:
        ((event, content),) = json.loads(text).items()
        if event == "begin":
            session = Session(content, out)
            continue
        assert session is not None
        getattr(session, event)(content)
        if event == "end":
            return
    if session is not None:
        session.end(None)


def main() -> None:
    """Serves the standard input; the standard output is for what the user should know alone."""
    events, out = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what W&B and its service print goes into the log beside its files
    try:
        serve(events, out)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        print(json.dumps({"failed": f"{type(error).__name__}: {reason}"}), file=out, flush=True)
        sys.stderr.flush()
        os._exit(1)  # W&B's own hooks would wait for what is gone
