"""Anytime prediction: each sample leaves at the first depth that is confident of it.

A layerwise network has a classifier at every depth, so easy samples need not run through all blocks.
Confidence is the largest softmax probability, with one threshold for all depths, as in Huang et al.,
Multi-Scale Dense Networks for Resource Efficient Image Classification (ICLR 2018, section 5.2).
The paper's classifiers cost more than the blocks that they read, so evaluating all of them can cost more
than it saves: a policy also says at which depths samples may leave, and only those heads are evaluated.
Everything is computed from the class scores that a run stored. Policies are chosen on the validation
split alone; the reported figures are of the test split.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from layerwise.config.build import build_agenda, build_data, build_spec, data_listing
from layerwise.core.errors import LayerwiseError
from layerwise.core.machine import git_commit, versions
from layerwise.models.choices import EnsembleOn
from layerwise.models.costs import BlockCost, block_costs
from layerwise.models.ensemble import ensemble
from layerwise.runs.checkpoints import Checkpoints
from layerwise.runs.data_check import check_data
from layerwise.runs.depth_search import run_config
from layerwise.runs.loading import load
from layerwise.runs.origin import origin_of
from layerwise.runs.run_files import CHECKPOINTS

SCHEMA = 1
"""Version of anytime.json."""

MOST_EXITS = 3
"""Maximum number of depths in a policy; the number of combinations grows fast."""

NEVER = 2.0
"""A threshold above all probabilities: all samples leave at the last depth."""


class Predictor(Enum):
    """What predicts at depth j: its head, or the 2^j ensemble of all heads up to it."""

    head = "head"
    ensemble = "ensemble"


@dataclass(frozen=True)
class Predictions:
    """Predictions of D depths, shallowest first, for N samples.

    Attributes:
        confidence: [D, N] float64, largest class probability.
        classes: [D, N] int64, the class with that probability.
    """

    confidence: Tensor
    classes: Tensor

    def leaving(self, threshold: float) -> Tensor:
        """[N] int64: position (0 … D−1) of the first depth whose confidence reaches the threshold, else the last."""
        reached = self.confidence >= threshold
        reached[-1] = True
        return reached.int().argmax(dim=0)  # the first of equal maxima

    def at(self, positions: Sequence[int]) -> Predictions:
        """The predictions at some depths."""
        chosen = list(positions)
        return Predictions(self.confidence[chosen], self.classes[chosen])

    def top1(self, threshold: float, labels: Tensor) -> float:
        """Accuracy in per cent of the predictions with which samples leave. Args: labels: [N] int64."""
        return accuracy(self.classes.gather(0, self.leaving(threshold)[None])[0], labels)

    def mean_macs(self, threshold: float, macs: Tensor) -> float:
        """Mean multiply-accumulates of a sample.

        Args:
            macs: [D] int64, cost of leaving at each depth.
        """
        return int(macs[self.leaving(threshold)].sum()) / self.confidence.shape[1]


def predictions(scores: Mapping[int, Tensor], on: Predictor, ensemble_on: EnsembleOn) -> Predictions:
    """Confidences and classes.

    Args:
        scores: class scores [N, c] by depth.
        ensemble_on: what the 2^j ensemble averages; unused with `on=head`.
    """
    depths = sorted(scores)
    if on is Predictor.head:
        probabilities = [scores[depth].double().softmax(dim=1) for depth in depths]
    else:
        combined = [ensemble({d: scores[d] for d in depths if d <= depth}, ensemble_on).double() for depth in depths]
        are_probabilities = ensemble_on is EnsembleOn.probabilities
        probabilities = [z if are_probabilities else z.softmax(dim=1) for z in combined]
    confidence, classes = torch.stack(probabilities).max(dim=2)
    return Predictions(confidence, classes)


@dataclass(frozen=True)
class Policy:
    """Where samples may leave, and how confident they must be.

    Attributes:
        exits: ascending indices into the depths; all remaining samples leave at the last.
        threshold: confidence at which a sample leaves.
    """

    exits: tuple[int, ...]
    threshold: float


def exit_macs(costs: Sequence[BlockCost], depths: Sequence[int], exits: Sequence[int], on: Predictor) -> Tensor:
    """[E] int64: multiply-accumulates of leaving at each exit; an ensemble evaluates all heads up to there."""
    if on is Predictor.ensemble:
        return leaving_macs(costs, depths)[list(exits)]
    return leaving_macs(costs, [depths[position] for position in exits])


def leaving_macs(costs: Sequence[BlockCost], depths: Sequence[int]) -> Tensor:
    """[D] int64: multiply-accumulates until each depth, of all blocks and of all heads on the way.

    Args:
        costs: cost of block j, at index j−1.
        depths: where samples may leave, ascending.
    """
    return torch.tensor(
        [
            sum(c.block_macs for c in costs[:depth]) + sum(costs[d - 1].head_macs for d in depths if d <= depth)
            for depth in depths
        ]
    )


def choose_threshold(validation: Predictions, macs: Tensor, target: float) -> float:
    """The highest threshold whose mean cost on the validation split does not exceed a target.

    Args:
        macs: [D] int64, cost of leaving at each depth; ascending.
        target: mean multiply-accumulates, `macs[0]` or more.
    """
    # the cost changes at confidences only, and it never falls as the threshold rises
    candidates = [0.0, *validation.confidence[:-1].unique().tolist(), NEVER]
    affordable = bisect_right(candidates, target, key=lambda threshold: validation.mean_macs(threshold, macs))
    return float(candidates[affordable - 1])


def choose_policies(
    validation: Predictions,
    labels: Tensor,
    costs: Sequence[BlockCost],
    depths: Sequence[int],
    on: Predictor,
    points: int,
) -> list[Policy]:
    """The policies that are most accurate on the validation split for evenly spaced mean costs, without duplicates.

    Args:
        validation: predictions at `depths`.
        labels: [N] int64 of the validation split.
        costs: cost of block j, at index j−1.
        depths: depths with a head, ascending.
        points: number of mean costs, from that of the first depth to that of the last depth alone.
    """
    positions = range(len(depths))
    choices = [exits for n in range(1, MOST_EXITS + 1) for exits in combinations(positions, n)]
    macs = {exits: exit_macs(costs, depths, exits, on) for exits in choices}
    cheapest, dearest = float(macs[0,][0]), float(macs[len(depths) - 1,][0])
    best: list[Policy] = []
    for target in torch.linspace(cheapest, dearest, points, dtype=torch.float64).tolist():
        scored = []
        for exits in choices:
            if macs[exits][0] <= target + 0.5:  # half an operation: linspace rounds
                made = validation.at(exits)
                threshold = choose_threshold(made, macs[exits], target + 0.5)
                cost = made.mean_macs(threshold, macs[exits])
                scored.append((made.top1(threshold, labels), -cost, Policy(exits, threshold)))
        policy = max(scored, key=lambda entry: entry[:2])[2]
        best += [policy] if policy not in best else []
    return best


def accuracy(classes: Tensor, labels: Tensor) -> float:
    """Accuracy in per cent of [N] predicted classes."""
    return 100.0 * int((classes == labels).sum()) / len(labels)


def operating_point(test: Predictions, labels: Tensor, macs: Tensor, policy: Policy) -> dict[str, Any]:
    """A policy on the test split: accuracy and shares of samples in per cent, mean multiply-accumulates.

    Args:
        test: predictions on the test split at all depths.
        labels: [N] int64.
        macs: [E] int64, cost of leaving at each of the policy's exits.
    """
    made = test.at(policy.exits)
    left = torch.tensor(policy.exits)[made.leaving(policy.threshold)]
    return {
        "threshold": policy.threshold,
        "macs": made.mean_macs(policy.threshold, macs),
        "test_top1": made.top1(policy.threshold, labels),
        "leaving": (torch.bincount(left, minlength=len(test.classes)) * (100.0 / len(labels))).tolist(),
    }


def measure(run_folder: str | Path, on: Predictor, points: int, trust: bool = False) -> dict[str, Any]:
    """Measures anytime prediction with a run's network and returns the content of anytime.json.

    Args:
        run_folder: run with a validation split and at least two finished depths with a head.
        trust: see `runs.loading.load`.

    Raises:
        LayerwiseError: not such a run, or the data set cannot be read.
    """
    folder = Path(run_folder)
    network = load(folder, trust=trust)
    config = run_config(folder, trust)
    check_data(folder, build_spec(config), lambda: data_listing(config))
    if config.evaluation.mirror:
        raise LayerwiseError(
            f"{folder}: evaluation.mirror=true averages two predictions per image, which anytime prediction does not "
            "support. Train with evaluation.mirror=false."
        )
    if network.spec.target:
        raise LayerwiseError(f"{folder}: predicts a quantity, which has no confidence to leave early by.")
    if not config.dataset.validation and config.dataset.folds is None:
        raise LayerwiseError(
            f"{folder}: has no validation split to choose thresholds on. Train it with dataset.validation=0.1."
        )
    depths = network.depths
    if len(depths) < 2:
        raise LayerwiseError(
            f"{folder}: only depth {depths[0]} has a trained classifier; leaving early needs two or more."
        )
    stored: dict[str, dict[int, Tensor]] = {"validation": {}, "test": {}}
    for tree in Checkpoints(folder / CHECKPOINTS, print, origin_of(folder)).read_finished(build_agenda(config))[0]:
        for split, by_depth in tree["scores"].items():
            stored[split] |= {depth: z for depth, z in by_depth.items() if depth in depths}
    splits = build_data(config, network.spec, torch.device("cpu")).splits
    labels = splits["test"].labels
    validation, test = (predictions(stored[split], on, config.ensemble.on) for split in ("validation", "test"))
    costs = block_costs(network, network.spec.shape, torch.float32)
    fixed = torch.cat([exit_macs(costs, depths, [position], on) for position in range(len(depths))])
    chosen = []
    for policy in choose_policies(validation, splits["validation"].labels, costs, depths, on, points):
        macs = exit_macs(costs, depths, policy.exits, on)
        point = operating_point(test, labels, macs, policy) | {"exits": [depths[position] for position in policy.exits]}
        point["validation_macs"] = validation.at(policy.exits).mean_macs(policy.threshold, macs)
        chosen.append(point)
    return {
        "schema": SCHEMA,
        "name": folder.resolve().name,
        "on": on.value,
        "depths": list(depths),
        "images": {"validation": validation.confidence.shape[1], "test": len(labels)},
        "fixed": [
            {"block": depth, "macs": cost, "test_top1": accuracy(classes, labels)}
            for depth, cost, classes in zip(depths, fixed.tolist(), test.classes, strict=True)
        ],
        "points": [point | {"saving": 100.0 * (1 - point["macs"] / int(fixed[-1]))} for point in chosen],
        "versions": versions(),
        "git_commit": git_commit(),
    }
