"""Probes: how separable the classes are at each depth of a trained network (the paper's separability).

Linear separability is the accuracy of a one-vs-rest logistic regression on features averaged to 2×2
per channel. CNN-p separability is that of a classifier with p hidden 3×3 convolutions, trained on the
frozen features. The same probes are used at all depths and for all k, so that runs can be compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from layerwise.config.build import (
    build_agenda,
    build_data,
    build_objective,
    build_optimizer,
    build_recipe,
    build_spec,
    data_listing,
)
from layerwise.config.resolved import ResolvedConfig
from layerwise.core.errors import LayerwiseError, NonFiniteLoss
from layerwise.core.files import fingerprint
from layerwise.core.interrupt import StopRequest
from layerwise.core.machine import git_commit, hardware, versions
from layerwise.core.precision import Precision, choose_device, choose_precision
from layerwise.core.randomness import key, seeded
from layerwise.core.types import Batch
from layerwise.data.dataset import Dataset, SplitName
from layerwise.data.split import limit
from layerwise.features.batches import BatchPlan
from layerwise.features.sources import Recompute
from layerwise.models.blocknet import BlockNet, Segment
from layerwise.models.heads import QUADRANTS, CnnHead
from layerwise.runs.data_check import check_data
from layerwise.runs.depth_search import run_config
from layerwise.runs.loading import TrainedNet, load
from layerwise.runs.metrics import write_results
from layerwise.runs.run_files import missing, read_object
from layerwise.training.evaluate import accuracies, predict
from layerwise.training.plan import Stage
from layerwise.training.trainer import StageTrainer

SCHEMA, PROBES = 1, "probes.json"
"""Version and name of the file in the run folder."""

CNN_PROBES = {"cnn1": 1, "cnn2": 2}
"""Hidden convolutions p of the CNN-p probes."""

DEFAULT_WIDTH = 128
"""Width of the CNN probes if the run's heads have none."""

ITERATIONS = 1000
"""Maximum steps of the logistic regression's solver."""


@dataclass(frozen=True)
class ProbeSettings:
    """What the accuracies depend on besides the network.

    Attributes:
        limit: number of training images of the logistic regression, class-balanced; None for all.
        seed: seed of initialisation and shuffles, and of the choice of these images.
        precision: name of the format in which features are computed.
        lr: learning rate of the CNN probes; None for that of the run.
    """

    epochs: int
    width: int
    limit: int | None
    seed: int
    precision: str
    lr: float | None = None

    def record(self) -> dict[str, Any]:
        """Returns an entry `settings` of probes.json, without what has its default there."""
        return {name: value for name, value in asdict(self).items() if name != "lr" or value is not None}


def probe_run(
    run_folder: str | Path,
    *,
    epochs: int,
    width: int | None,
    images: int | None,
    seed: int,
    device: str,
    note: Callable[[str], None],
    trust: bool = False,
    lr: float | None = None,
) -> dict[str, Any]:
    """Probes each finished depth of a run and saves the accuracies in its probes.json.

    Depths that were probed before with the same settings are not probed again.

    Args:
        run_folder: run folder; the run may be unfinished.
        epochs: training epochs of each CNN probe, with the run's optimiser.
        width: channels of the CNN probes; None for the run's `model.head_width`.
        images: number of training images of the logistic regression; None for all.
        seed: see `ProbeSettings`.
        device: auto, cpu, cuda or cuda:N.
        trust: see `runs.loading.load`.
        lr: see `ProbeSettings`.

    Returns:
        The content of probes.json: `name`, `k`, `width` (M), `seed`, `planned` (J), `settings`, and `depths`, a row
        per finished depth with test accuracies in per cent as `linear`, `cnn1` and `cnn2`; rows of other settings
        or weights are in `earlier`.

    Raises:
        Interrupted: a signal arrived; finished depths are saved.
        LayerwiseError: not a run folder, no block is finished, a probe diverged, or the data set cannot be read.
    """
    folder = Path(run_folder)
    place = choose_device(device)
    network = load(folder, place, trust).to(memory_format=torch.channels_last)
    config = run_config(folder, trust)
    check_data(folder, build_spec(config), lambda: data_listing(config))
    precision = choose_precision(config.precision, place)
    width = width or config.model.first_head_width or DEFAULT_WIDTH
    settings = ProbeSettings(epochs, width, images, seed, precision.name, lr)
    planned, trained = build_agenda(config).stages()[-1].stop, len(network.blocks)
    check_maps(network, f"{folder}: {config.model.name}", place)
    stored = read_probes(folder / PROBES)
    probes: dict[str, Any] = {
        "schema": SCHEMA,
        "name": folder.resolve().name,
        "k": config.k,
        "width": config.model.first_width,
        "seed": config.seed,
        "planned": planned,
        "settings": settings.record(),
        "depths": [],
        "earlier": stored,
    }
    data: Dataset | None = None
    with StopRequest() as stop:
        for depth in range(1, trained + 1):
            identity = {
                "block": depth,
                "settings": settings.record(),
                "network": fingerprint(network.blocks[:depth].state_dict()),
            }
            row = next((row for row in stored if all(row[name] == value for name, value in identity.items())), None)
            if row is None:
                note(f"{folder.name}: probing depth {depth} of {trained}")
                data = data or build_data(config, network.spec, place)
                row = identity | probe_depth(config, network, depth, data, settings, precision, stop)
            probes["depths"].append(row)
            probes["earlier"] = [other for other in stored if other not in probes["depths"]]
            write_results(folder / PROBES, probes)
    if trained < planned:
        missing = f"depth {planned} is" if trained + 1 == planned else f"depths {trained + 1} … {planned} are"
        note(f"{folder.name}: {missing} not finished, so not probed; finish the run first")
    return probes


def check_maps(network: TrainedNet, name: str, device: torch.device) -> None:
    """Refuses a network whose last block returns no feature maps [B, C, H, W].

    Args:
        name: of the network, for the message.

    Raises:
        LayerwiseError: it returns tokens or vectors.
    """
    with torch.no_grad():
        deepest = network.features(torch.zeros(1, *network.spec.shape, device=device), len(network.blocks))
    if deepest.dim() != 4:
        raise LayerwiseError(
            f"{name} returns {'tokens' if deepest.dim() == 3 else 'vectors'} at its last depth, but probes need "
            "feature maps. Probe a run of model=simcnn or of a network whose blocks return maps."
        )


def read_probes(path: Path) -> list[dict[str, Any]]:
    """All rows of a probes.json; none if the file is absent."""
    remedy = "Remove it to train the probes again."
    probes = read_object(path, remedy) or {"depths": [], "earlier": []}
    rows: list[dict[str, Any]] = []
    for name in ("depths", "earlier"):
        if missing(probes, {name: list}) or any(missing(row, {"block": int}) for row in probes[name]):
            raise LayerwiseError(f"{path} is damaged ({name} is missing or has a wrong value). {remedy}")
        rows += probes[name]
    return rows


def probe_depth(
    config: ResolvedConfig,
    network: TrainedNet,
    depth: int,
    data: Dataset,
    settings: ProbeSettings,
    precision: Precision,
    stop: StopRequest,
) -> dict[str, Any]:
    """Test accuracies in per cent of all probes on x_depth, with seconds, hardware and versions."""
    started = time.perf_counter()
    plan = BatchPlan(config.batch_size, settings.seed)
    source = Recompute(data, plan, precision, list(network.blocks[:depth]))
    separability = {"linear": linear_separability(source, settings.limit, settings.seed, stop)}
    for name, p in CNN_PROBES.items():
        separability[name] = cnn_separability(config, network, depth, source, p, settings, precision, stop)
    return separability | {
        "seconds": time.perf_counter() - started,
        "hardware": hardware(data.device),
        "versions": versions(),
        "git_commit": git_commit(),
    }


def linear_separability(source: Recompute, images: int | None, seed: int, stop: StopRequest) -> float:
    """Test accuracy (%) of a one-vs-rest logistic regression on features averaged to 2×2 per channel.

    Features are of images without augmentation, and standardised.

    Args:
        images: number of training images; None for all.

    Raises:
        LayerwiseError: there are fewer training images.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import, and needed here only
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    splits = source.data.splits
    labels = splits["train"].labels[: source.data.having_here("labels")]  # those that the run may use
    order = torch.arange(len(labels), device=labels.device) if images is None else limit(labels, images, seed, "limit")

    def averaged(split: SplitName, positions: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        return average_quadrants(stop.all_watch(source.read(split, positions, view=None)))

    regression = OneVsRestClassifier(LogisticRegression(max_iter=ITERATIONS))
    classifier = make_pipeline(StandardScaler(), regression).fit(*averaged("train", order))
    held_out = torch.arange(len(splits["test"]), device=labels.device)
    return 100.0 * float(classifier.score(*averaged("test", held_out)))


def average_quadrants(batches: Iterable[Batch]) -> tuple[np.ndarray, np.ndarray]:
    """Features [N, 4C] of batches of x_j (averages of the four quadrants of each channel), and labels [N]."""
    averages, labels = [], []
    for x, targets in batches:
        averages.append(F.adaptive_avg_pool2d(x.float(), QUADRANTS).flatten(1).cpu())
        labels.append(targets.cpu())
    return torch.cat(averages).numpy(), torch.cat(labels).numpy()


def cnn_separability(
    config: ResolvedConfig,
    network: BlockNet,
    depth: int,
    source: Recompute,
    p: int,
    settings: ProbeSettings,
    precision: Precision,
    stop: StopRequest,
) -> float:
    """Test accuracy (%) of a classifier with p hidden convolutions, trained on x_depth as a stage of the run is.

    It has batch norms whatever the run has, so that all runs are probed alike.

    Args:
        config: of the run; gives objective, optimiser and schedule.
        p: hidden layers.
    """
    data = source.data
    with torch.no_grad():
        shape = tuple(network.features(torch.zeros(1, *data.spec.shape, device=data.device), depth).shape[1:])
    with seeded(key("probe", settings.seed, depth, p)):
        classes = len(data.spec.classes)
        head = CnnHead(p + 1, settings.width).build(shape, classes)
    head.to(data.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    stage = Stage(index=depth - 1, start=depth, stop=depth, depths=(depth,), epochs=settings.epochs, lr=settings.lr)
    probed = BlockNet(list(network.blocks[:depth]), {depth: head}, network.ensemble_on)
    segment = Segment(probed, stage.start, stage.stop, stage.depths)
    trainer = StageTrainer(
        stage.index,
        segment,
        build_objective(config, stage.target, segment, data),
        build_optimizer(config, segment),
        replace(build_recipe(config, stage, data), seed=settings.seed),
        precision,
    )
    try:
        for _ in trainer.run(source, stop):
            stop.all_check()
    except NonFiniteLoss as error:
        rate = trainer.recipe.lr
        raise LayerwiseError(
            f"the CNN-{p} probe at depth {depth} diverged with the learning rate {rate:g}. Use --lr with a smaller one."
        ) from error
    trainer.end()
    scores = predict(segment, stop.all_watch(source.evaluate("test")), precision)[depth]
    return accuracies(scores, data.splits["test"].labels)["top1"]
