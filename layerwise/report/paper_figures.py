"""What the paper reports, by the experiment that makes ours beside it.

Belilovsky, Eickenberg and Oyallon 2019. Test (ImageNet:
validation) top-1 accuracies in per cent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from layerwise.resolve import resolve
from layerwise.schema import Config, ModelKind, Plan


@dataclass(frozen=True)
class PaperFigure:
    """Accuracies of one network; None where the paper gives none.

    Attributes:
        top1: of the last head.
        ensemble_top1: of the 2^j ensemble.
    """

    top1: float | None = None
    ensemble_top1: float | None = None


PAPER_FIGURES: dict[str, PaperFigure] = {
    "paper_cifar10_k1": PaperFigure(88.3, 88.4),
    "paper_cifar10_k2": PaperFigure(90.4, 90.7),
    "paper_cifar10_k3": PaperFigure(91.7, 92.8),
    "baseline_cifar10_alexnet": PaperFigure(89.0),
    "baseline_cifar10_vgg11": PaperFigure(92.5),
    "paper_imagenet_k1": PaperFigure(58.1, 59.3),
    "paper_imagenet_k2": PaperFigure(65.7, 67.1),
    "paper_imagenet_k3": PaperFigure(69.7, 71.6),
    "paper_imagenet_k3_head1024": PaperFigure(69.2),
    "paper_imagenet_k3_head512": PaperFigure(68.7),
    "baseline_imagenet_k3_head512_joint": PaperFigure(71.5),
    "paper_imagenet_vgg11": PaperFigure(67.6, 70.1),
    "baseline_imagenet_vgg11_joint": PaperFigure(67.9),
    "paper_compression": PaperFigure(87.6),
    "baseline_compression_joint": PaperFigure(87.5),
}


def paper_figure(experiment: str) -> PaperFigure:
    """The paper's accuracies for an experiment file; empty for experiments that are not in it."""
    return PAPER_FIGURES.get(experiment, PaperFigure())


@dataclass(frozen=True)
class PaperReference:
    """What the paper reports of a network like that of a run.

    Attributes:
        experiment: the experiment file of it.
        figure: its accuracies.
        is_same: the run has the paper's widths, depth and schedule, and all of the data.
    """

    experiment: str
    figure: PaperFigure
    is_same: bool


def paper_reference(config: Config) -> PaperReference | None:
    """The experiment of the paper that a run repeats, perhaps at another scale; None if it is of none.

    Args:
        config: of the run, resolved.
    """
    experiment = _experiment(config)
    if experiment is None:
        return None
    return PaperReference(experiment, PAPER_FIGURES[experiment], is_same=_at_full_scale(config))


def _experiment(config: Config) -> str | None:
    model, data, plan = config.model, config.dataset.name, config.plan
    if data not in ("cifar10", "imagenet"):
        return None
    if plan.name is Plan.joint:
        kind = {ModelKind.alexnet: "alexnet", ModelKind.vgg: f"vgg{model.depth}"}.get(model.kind)
        names = [f"baseline_{data}_{kind}", f"baseline_{data}_{kind}_joint"]
    elif plan.name is not Plan.greedy:
        names = []
    elif model.kind is ModelKind.vgg:
        names = [f"paper_{data}_vgg{model.depth}"]
    elif model.kind is ModelKind.simcnn and plan.prune_to is None:
        last = "" if model.final_head_width is None else f"_head{model.final_head_width}"
        names = [f"paper_{data}_k{config.k}{last}"]
    else:
        names = []
    return next((name for name in names if name in PAPER_FIGURES), None)


def _at_full_scale(config: Config) -> bool:
    """Whether null in place of what sets the scale would give the same configuration."""
    model, plan, optimizer = config.model, config.plan, config.optimizer
    unset = replace(
        config,
        J=None,
        epochs=None,
        batch_size=None,
        model=replace(model, width=None, head_width=None, downsample=None, downsampling=None, batch_norm=None),
        dataset=replace(config.dataset, limit=None, labelled=1.0),
        plan=replace(plan, epochs=None),
        optimizer=replace(optimizer, lr=None, momentum=None, weight_decay=None, decay=None, decay_every=None),
    )
    return resolve(unset) == config
