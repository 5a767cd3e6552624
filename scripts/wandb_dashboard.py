"""Sets up a W&B workspace that compares runs: layerwise and end-to-end, accuracy over depth, training.

    python scripts/wandb_dashboard.py                              project `layerwise` of the account's own entity
    python scripts/wandb_dashboard.py --project thesis --entity lab
    python scripts/wandb_dashboard.py --print                      print the panels; needs no login

The runs are those of `logger=wandb`, grouped by plan (W&B's job type), and below it those that differ in the seed alone
(W&B's group), so each panel shows layerwise and end-to-end side by side. It needs a login (`wandb login`, or
WANDB_API_KEY) and the network. Each call makes a new view.
"""

from __future__ import annotations

import argparse
import importlib.util
from typing import TYPE_CHECKING, Any, NamedTuple

from layerwise.commands.errors import reported
from layerwise.config.groups.outputs import WandbConfig
from layerwise.core.errors import LayerwiseError

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace


class Panel(NamedTuple):
    """What is drawn over what.

    Attributes:
        x: a metric of the history, with a line per run; a number of the summary, with a point per run; or None, for
            the mean of the runs of each plan.
    """

    title: str
    x: str | None
    y: str

    @property
    def is_curve(self) -> bool:
        return self.x in ("step", "depth_block")


SECTIONS = {
    "Layerwise and end-to-end": [
        Panel("Test accuracy, %", None, "test_top1"),
        Panel("Test accuracy of the ensemble, %", None, "ensemble_top1"),
        Panel("Test accuracy, % over seconds", "seconds", "test_top1"),
        Panel("Test accuracy, % over parameters", "parameters", "test_top1"),
    ],
    "Accuracy over depth": [
        Panel("Test accuracy, %", "depth_block", "depth/test_top1"),
        Panel("Test accuracy of the ensemble, %", "depth_block", "depth/ensemble_top1"),
        Panel("Training accuracy, %", "depth_block", "depth/train_top1"),
    ],
    "Training": [
        Panel("Loss", "step", "train/loss"),
        Panel("Training accuracy, %", "step", "train/top1"),
        Panel("Test accuracy at the end of each stage, %", "step", "test/top1"),
        Panel("Learning rate", "step", "lr"),
        Panel("Images per second", "step", "speed/images_per_second"),
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", default=WandbConfig().project)
    parser.add_argument("--entity", help="user or team; default: the account's own")
    parser.add_argument("--name", default="Layerwise and end-to-end", help="name of the view")
    parser.add_argument("--print", action="store_true", dest="show", help="print the panels without setting them up")
    options = parser.parse_args()
    if options.show:
        for title, panels in SECTIONS.items():
            print(title, *(f"  {p.title}: {p.y} {f'over {p.x}' if p.x else 'by plan'}" for p in panels), sep="\n")
        return
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise LayerwiseError("wandb-workspaces is missing: pip install wandb-workspaces.")
    print(f"workspace: {set_up(options.project, options.entity, options.name)}")


def set_up(project: str, entity: str | None, name: str) -> str:
    """Saves the workspace and returns its address.

    Raises:
        LayerwiseError: not logged in, or the server refuses it.
    """
    import wandb

    try:
        if not wandb.login(prompt=False, verify=True):
            raise LayerwiseError(
                "not logged in to W&B. Run `wandb login`, or set WANDB_API_KEY; --print shows the panels "
                "without a login."
            )
        saved = workspace(entity or wandb.Api().default_entity, project, name).save()
    except (wandb.errors.Error, ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise LayerwiseError(
            f"W&B refused the workspace for project {project}: {reason}. "
            "Check the login (`wandb login`), the network, and that the project has runs."
        ) from error
    return str(saved.url)


def workspace(entity: str, project: str, name: str) -> Workspace:
    """The workspace as an object of W&B's library."""
    import wandb_workspaces.workspaces as ws

    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[
            ws.Section(name=title, panels=[drawn(panel) for panel in panels], is_open=True)
            for title, panels in SECTIONS.items()
        ],
        runset_settings=ws.RunsetSettings(groupby=[ws.Metric("JobType"), ws.Metric("Group")]),
    )


def drawn(panel: Panel) -> Any:
    """A panel as an object of W&B's library."""
    import wandb_workspaces.reports.v2 as wr

    if panel.is_curve:
        return wr.LinePlot(title=panel.title, x=panel.x, y=[panel.y])
    if panel.x is None:
        return wr.BarPlot(title=panel.title, metrics=[wr.SummaryMetric(panel.y)], orientation="v")
    return wr.ScatterPlot(title=panel.title, x=wr.SummaryMetric(panel.x), y=wr.SummaryMetric(panel.y))


if __name__ == "__main__":
    with reported():
        main()
