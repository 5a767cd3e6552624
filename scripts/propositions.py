"""Checks the paper's Proposition 3.1 and measures 3.2 on scikit-learn's digits, without a download.

    python scripts/propositions.py                 both, about half a minute on one core
    python scripts/propositions.py --check 3.1     one of them

All runs train SimCNN greedily with k = 1 and plan.warm_start, without batch norm and downsampling, in float32 on the
CPU. Finished runs in --output-dir are used again.

3.1, progressive improvement: block j as warm start leaves it (the identity, with the head of block j−1) has the risk
at which block j−1 ended, because ρ∘ρ = ρ. Measured: both risks, the mean cross-entropy over all training images
without augmentation, for j = 2 … J of the reference run. The exit code is 1 if they differ by more than 1e-5 of their
value.

3.2, accumulation of errors: solutions of the greedy problems that are ε-approximate give ‖x_J* − x̂_J‖ = O(J² ε). The
reference x* is the run of --epochs epochs a block; a procedure that stops earlier, with the same initialisation,
shuffles, augmentation and learning rates, gives the approximate solutions: θ̂ of block j on an input g is θ_{ε,g}.
ε is that of the statement, with θ̂_j trained on the reference's own features x*_{j−1}; x̂ is a run of the early
procedure, whose blocks from 2 on are trained on its own features. Measured on the test images x_0, ‖·‖ over channels
and positions, the largest over all images:

    ε       = max_j ‖W_θ*j x*_{j−1} − W_θ̂j x*_{j−1}‖ / (1 + ‖x*_{j−1}‖)
    error_J = ‖x*_J − x̂_J‖ / (1 + ‖x_0‖)

The proposition also assumes 1-Lipschitz operators and solutions that are stable in their input, which training does not
guarantee: the greatest factor by which one early block moved two inputs apart is reported as `stability`, and more than
1 breaks the assumption. So this shows how errors accumulate in practice, and is no test of the proposition.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn

from layerwise.analysis.drawing import MARKERS, PALETTE, pyplot, save
from layerwise.commands.arguments import Parser, at_least
from layerwise.commands.compose import configuration
from layerwise.commands.errors import reported
from layerwise.config import build
from layerwise.config.resolved import ResolvedConfig
from layerwise.core.choices import PrecisionName
from layerwise.core.errors import LayerwiseError
from layerwise.core.interrupt import StopRequest
from layerwise.core.machine import git_commit, hardware, versions
from layerwise.core.precision import choose_precision
from layerwise.data.dataset import Dataset
from layerwise.experiment.run import run_in_folder
from layerwise.features.batches import BatchPlan
from layerwise.features.sources import Recompute
from layerwise.models.blocknet import Segment
from layerwise.reporting.tables import show
from layerwise.runs.depth_search import run_config
from layerwise.runs.loading import TrainedNet, load
from layerwise.runs.metrics import write_results
from layerwise.training.beginnings import carry_head, warm_start
from layerwise.training.evaluate import predict
from layerwise.training.objectives import LocalLoss, class_loss
from layerwise.training.trainer import StageTrainer

CPU = torch.device("cpu")
PRECISION = choose_precision(PrecisionName.fp32, CPU)
TOLERANCE = 1e-5
DECAY_EVERY = 0.3
"""Fraction of the reference run's epochs between two decays of the learning rate (the paper's 15 of 50)."""


def parser() -> Parser:
    made = Parser("propositions", __doc__)
    made.prog = "scripts/propositions.py"
    made.add_argument("--check", choices=("3.1", "3.2", "all"), default="all")
    made.add_argument("--J", type=at_least(2), default=6, metavar="N", help="blocks (default: 6)")
    made.add_argument("--width", type=at_least(1), default=16, metavar="N", help="M, channels of a block (default: 16)")
    made.add_argument(
        "--epochs", type=at_least(1), default=20, metavar="N", help="epochs a block of the reference run (default: 20)"
    )
    made.add_argument(
        "--shorter",
        type=at_least(1),
        nargs="+",
        default=[1, 2, 4, 8, 12, 16, 18],
        metavar="N",
        help="epochs a block of the perturbed runs (default: 1 2 4 8 12 16 18)",
    )
    made.add_argument("--seed", type=int, default=0, metavar="N", help="of all runs (default: 0)")
    made.add_argument("--output-dir", default="outputs", metavar="FOLDER", help="of the run folders (default: outputs)")
    made.add_argument(
        "--out", type=Path, default=Path("results/propositions"), metavar="FILE", help="JSON and figure, without suffix"
    )
    return made


def read_record(path: Path) -> dict[str, Any]:
    """What an earlier call wrote.

    Raises:
        LayerwiseError: the file is damaged.
    """
    try:
        record: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise LayerwiseError(f"{path}: is damaged ({error}). Remove it.") from error
    return record


def main() -> None:
    options = parser().parse_args()
    if max(options.shorter) >= options.epochs:
        raise LayerwiseError(f"--shorter {max(options.shorter)}: must be less than --epochs {options.epochs}.")
    plt = pyplot()
    path: Path = options.out
    record = read_record(path.with_suffix(".json"))
    reference = trained(options, options.epochs)
    facts: dict[str, Any] = {"hardware": hardware(CPU), "versions": versions(), "git_commit": git_commit()}
    facts["options"] = {**vars(options), "out": str(path)}
    holds = True
    if options.check in ("3.1", "all"):
        rows = progressive_improvement(*reference)
        holds = all(row["relative_difference"] <= TOLERANCE for row in rows)
        record["3.1"] = {"holds": holds, "tolerance": TOLERANCE, "blocks": rows, **facts}
        show(table_31(rows, holds))
    if options.check in ("3.2", "all"):
        early = early_solutions(options, *reference)
        rows = [accumulation(*reference, early[n], trained(options, n)[0], n) for n in options.shorter]
        record["3.2"] = {"largest_ratio": largest_ratio(rows), "runs": rows, **facts}
        show(table_32(rows))
        save(draw(rows, plt), path.with_suffix(".png"))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_results(path.with_suffix(".json"), record)
    if not holds:
        print("Proposition 3.1 does not hold: a warm start begins at a different risk.", file=sys.stderr)
        sys.exit(1)


def trained(options: Namespace, epochs: int) -> tuple[TrainedNet, Dataset]:
    """The network of a run that stops each block after `epochs` of the reference run's epochs, and its data.

    A finished run is only read.
    """
    config = run_configuration(options, epochs)
    print(f"run {config.name}", file=sys.stderr)
    with contextlib.redirect_stderr(io.StringIO()):
        _, folder = run_in_folder(config, CPU, PRECISION)
    network = load(folder)
    return network, build.build_data(run_config(folder), network.spec, CPU)


def run_configuration(options: Namespace, epochs: int) -> ResolvedConfig:
    """The configuration of such a run."""
    name = f"propositions-J{options.J}-M{options.width}-seed{options.seed}-{epochs}of{options.epochs}"
    overrides = [
        *(f"name={name}", f"output_dir={options.output_dir}", f"J={options.J}", f"seed={options.seed}", "k=1"),
        *("dataset=digits", "batch_size=64", f"epochs={epochs}", "plan.warm_start=true", "progress=off"),
        *(f"model.width={options.width}", "model.batch_norm=false", "model.bias=true", "model.downsample=[]"),
        # decays after the same epochs as in the reference run; this lr is the largest that trains all runs without
        # batch norm so smoothly that stopping early is a small perturbation
        *("optimizer.lr=0.02", f"optimizer.decay_every={DECAY_EVERY * options.epochs / epochs}"),
        *("device=cpu", "precision=fp32"),
    ]
    return configuration(overrides)


def early_solutions(options: Namespace, reference: TrainedNet, data: Dataset) -> dict[int, list[nn.Module]]:
    """Blocks θ̂_1 … θ̂_J, each trained for some epochs of the reference run on x*_{j−1}; by these epochs.

    Each is trained to the end of the reference run, and must then be the reference's block.

    Raises:
        LayerwiseError: it is not; the run is of another machine or version.
    """
    config = run_configuration(options, options.epochs)
    source = Recompute(data, build.build_batch_plan(config, data), PRECISION)
    early: dict[int, list[nn.Module]] = {epochs: [] for epochs in options.shorter}
    stages = build.build_agenda(config).stages()
    for stage in stages:
        j, network = stage.stop, build.build_network(config, data.spec, stages)
        if stage.warm_start:
            warm_start(network, j, source.train(stage.index, epoch=0))
            network.head(j).load_state_dict(reference.head(j - 1).state_dict())
        segment = Segment(network, j - 1, j, (j,))
        optimizer, recipe = build.build_optimizer(config, segment), build.build_recipe(config, stage, data)
        trainer = StageTrainer(stage.index, segment, LocalLoss(), optimizer, recipe, PRECISION)
        for _ in trainer.run(source, StopRequest()):
            if trainer.epoch in early:
                early[trainer.epoch].append(copy.deepcopy(network.blocks[j - 1]).eval())
        ends = zip(network.blocks[j - 1].parameters(), reference.blocks[j - 1].parameters(), strict=True)
        if not all(torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4) for ours, theirs in ends):
            raise LayerwiseError(
                f"{options.output_dir}: block {j} of the reference run cannot be trained again. "
                "Use another --output-dir."
            )
        source.advance([reference.blocks[j - 1]])
    return early


def progressive_improvement(network: TrainedNet, data: Dataset) -> list[dict[str, Any]]:
    """Proposition 3.1 for j = 2 … J: the risk where block j−1 ended, and where block j begins."""
    rows = []
    for j in network.depths[1:]:
        begun = copy.deepcopy(network)
        source = Recompute(data, BatchPlan(batch_size=64, seed=0), PRECISION, list(begun.blocks[: j - 1]))
        ended = risk(Segment(begun, j - 1, j - 1, (j - 1,)), source)
        after = risk(Segment(begun, j - 1, j, (j,)), source)
        warm_start(begun, j, source.train(stage=0, epoch=0))
        carry_head(begun.heads, j - 1, j)
        begins = risk(Segment(begun, j - 1, j, (j,)), source)
        difference = abs(begins - ended) / ended
        rows.append({"block": j, "ended": ended, "begins": begins, "relative_difference": difference, "trained": after})
    return rows


def risk(segment: Segment, source: Recompute) -> float:
    """Mean cross-entropy of a segment's head over all training images, not augmented."""
    (scores,) = predict(segment, source.evaluate("train"), PRECISION).values()
    return float(class_loss("cross_entropy", scores, source.data.splits["train"].labels))


@torch.no_grad()
def accumulation(
    reference: TrainedNet, data: Dataset, early: Sequence[nn.Module], perturbed: TrainedNet, epochs: int
) -> dict[str, Any]:
    """Proposition 3.2 for a perturbed run: ε_j of each block, ε, error_J for J = 1 … , and the stability.

    Args:
        reference: x*.
        early: blocks θ̂_j, trained on x*_{j−1}.
        perturbed: x̂.
    """
    n = len(data.splits["test"])
    images = next(data.batches("test", torch.arange(n), batch_size=n)).inputs
    exact = approximate = images
    epsilons, errors, stability = [], [], []
    for right, near, wrong in zip(reference.blocks, early, perturbed.blocks, strict=True):
        linear, approximated = (block[:-1] for block in (right, near))  # W without ρ
        epsilons.append(float((norms(linear(exact) - approximated(exact)) / (1 + norms(exact))).max()))
        moved, apart = near(exact) - wrong(approximate), norms(exact - approximate)
        if apart.all():
            stability.append(float((norms(moved) / apart).max()))
        exact, approximate = right(exact), wrong(approximate)
        errors.append(float((norms(exact - approximate) / (1 + norms(images))).max()))
    row = {"epochs": epochs, "epsilon": max(epsilons), "epsilons": epsilons, "errors": errors}
    return row | {"stability": max(stability)}


def norms(x: Tensor) -> Tensor:
    """‖x‖ of each sample: [N, C, H, W] → [N]."""
    return x.flatten(1).norm(dim=1)


def largest_ratio(rows: list[dict[str, Any]]) -> float:
    """The largest error_J / (J² ε) over all runs and J."""
    return max(error / (J**2 * row["epsilon"]) for row in rows for J, error in enumerate(row["errors"], 1))


def table_31(rows: list[dict[str, Any]], holds: bool) -> Table:
    table = Table(title="Proposition 3.1: a warm start begins where the block before ended", title_justify="left")
    for name in ("block j", "risk where j−1 ended", "risk where j begins", "relative difference", "risk where j ends"):
        table.add_column(name, justify="right")
    for row in rows:
        risks = (row["ended"], row["begins"], row["trained"])
        ended, begins, after = (f"{value:.6f}" for value in risks)
        table.add_row(str(row["block"]), ended, begins, f"{row['relative_difference']:.1e}", after)
    table.caption = f"{'holds' if holds else 'does NOT hold'} to {TOLERANCE:.0e} of the risk"
    return table


def table_32(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="Proposition 3.2: how errors accumulate", title_justify="left")
    depths = range(1, len(rows[0]["errors"]) + 1)
    for name in ("epochs", "ε", *(f"error_{J}" for J in depths), "stability"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            str(row["epochs"]), *(f"{value:.3f}" for value in (row["epsilon"], *row["errors"], row["stability"]))
        )
    table.caption = (
        f"largest error_J / (J² ε): {largest_ratio(rows):.2f}; the proposition assumes a stability of at most 1"
    )
    return table


def draw(rows: list[dict[str, Any]], plt: ModuleType) -> Any:
    """Two panels on logarithmic axes: error over ε for each J, and error over J for each ε."""
    rows = sorted(rows, key=lambda row: row["epsilon"])
    J_max = len(rows[0]["errors"])
    epsilon = [row["epsilon"] for row in rows]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True)
    for J in range(1, J_max + 1):
        style = {"color": PALETTE[(J - 1) % len(PALETTE)], "marker": MARKERS[(J - 1) % len(MARKERS)]}
        left.plot(epsilon, [row["errors"][J - 1] for row in rows], lw=1, label=f"J = {J}", **style)
    left.plot(epsilon, epsilon, ":", color="grey", label="ε")
    left.set(xlabel="ε: of a block trained on the reference's features", ylabel="error of $x_J$")
    left.set_title("error over ε, for each depth J", loc="left", fontsize=10)
    shades = [plt.get_cmap("viridis")(0.9 * i / max(len(rows) - 1, 1)) for i in range(len(rows))]
    depths = list(range(1, J_max + 1))
    for i, (row, shade) in enumerate(zip(rows, shades, strict=True)):
        label = f"ε = {row['epsilon']:.2g} ({row['epochs']} epochs)"
        right.plot(depths, row["errors"], color=shade, marker=MARKERS[i % len(MARKERS)], label=label)
    right.plot(depths, [epsilon[0] * J**2 for J in depths], ":", color="grey", label=f"J² ε at ε = {epsilon[0]:.2g}")
    right.set(xlabel="depth J", xscale="log", yscale="log")
    right.set_xticks(depths, [str(J) for J in depths], minor=False)
    right.xaxis.set_minor_formatter(plt.matplotlib.ticker.NullFormatter())
    right.set_title("error over depth J, for each ε", loc="left", fontsize=10)
    left.set(xscale="log")
    left.xaxis.set_major_locator(plt.matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    left.xaxis.set_major_formatter(plt.matplotlib.ticker.FormatStrFormatter("%g"))
    left.xaxis.set_minor_formatter(plt.matplotlib.ticker.NullFormatter())
    left.legend(loc="lower right")
    handles, labels = right.get_legend_handles_labels()
    right.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    return figure


if __name__ == "__main__":
    with reported():
        main()
