"""What the paper reports, by the experiment that makes ours beside it.

Belilovsky, Eickenberg and Oyallon 2019. Test (ImageNet:
validation) top-1 accuracies in per cent.
"""

from __future__ import annotations

from dataclasses import dataclass

from layerwise.config.networks.simcnn import SimCnnConfig
from layerwise.config.networks.vgg import VggConfig
from layerwise.config.plans.greedy import GreedyConfig
from layerwise.config.schema import Config


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
    "paper_imagenet_k1_table3": PaperFigure(58.1, 59.3),
    "paper_imagenet_k1_table7": PaperFigure(),
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


def experiment_of(config: Config) -> str | None:
    """The experiment of the paper whose network a run trains, perhaps at another scale; None if it is of none."""
    model, data, plan = config.model, config.dataset.name, config.plan
    if data not in ("cifar10", "imagenet") or config.outside:
        return None
    if plan.whole:
        names = [f"baseline_{data}_{model.label}", f"baseline_{data}_{model.label}_joint"]
    elif not isinstance(plan, GreedyConfig):
        names = []
    elif isinstance(model, VggConfig):
        names = [f"paper_{data}_{model.label}"]
    elif isinstance(model, SimCnnConfig) and plan.prune_to is None:
        last = "" if model.final_head_width is None else f"_head{model.final_head_width}"
        names = [f"paper_{data}_k{config.k}{last}"]
        if data == "imagenet" and config.k == 1:
            names = ["paper_imagenet_k1_table3" if config.J == 8 else "paper_imagenet_k1_table7"]
    else:
        names = []
    return next((name for name in names if name in PAPER_FIGURES), None)
