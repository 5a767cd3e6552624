"""Lists what can be chosen, each with its keys and one line: models, heads, datasets, plans or objectives.

    layerwise list models
    layerwise list heads

`own` stands for a function of your own package (`_target_`), with the parameters that it may have.
"""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import fields

import yaml
from hydra.utils import get_method
from rich.table import Table

from layerwise.commands.arguments import Parser
from layerwise.commands.conf_files import CONF, choices
from layerwise.config.datasets.images import TorchvisionConfig
from layerwise.config.effects import has_effect
from layerwise.config.groups.data import CacheConfig, CacheKind
from layerwise.config.networks.resnet_cifar import ResNetCifarConfig
from layerwise.config.networks.simcnn import SimCnnConfig
from layerwise.config.outside import TARGET, offered
from layerwise.config.resolve import resolve
from layerwise.config.schema import Config
from layerwise.models.choices import HeadKind
from layerwise.reporting.tables import show
from layerwise.training.choices import LossName
from layerwise.training.contracts import CONTRACTS

Entry = tuple[str, Sequence[str], str]
"""Name, keys and what it is."""

CHOSEN = (("name", "dataset"), ("name", "plan"))
"""Keys that the choice itself sets, with their groups."""

LOSSES: dict[LossName, tuple[tuple[str, ...], str]] = {
    LossName.cross_entropy: (("label_smoothing", "single_logit"), "Of the softmax of the class scores: the paper's."),
    LossName.binary_cross_entropy: (("label_smoothing", "single_logit"), "A sigmoid for each class against the rest."),
    LossName.squared_error: ((), "Of the scores and a one-hot vector, or of real-valued targets."),
    LossName.absolute_error: ((), "Likewise, the absolute value."),
}
"""Values of `objective.loss`, with the keys of `objective` that not all of them have."""

HEADS: dict[HeadKind, str] = {
    HeadKind.cnn: "The paper's: k-1 convolutions, average, linear layer.",
    HeadKind.mlp_sr: "Pooling, 1x1 convolutions and a perceptron (decoupled greedy learning).",
    HeadKind.predsim: "Linear, beside a convolution with a similarity loss.",
    HeadKind.pooled: "2x2 max pooling after each of k-1 convolutions, global maximum, linear layer without bias.",
    HeadKind.aux_1c2f: "A convolution with stride 2, average, two linear layers: the common head of local learning.",
    HeadKind.auglocal: "Units like some of the layers behind it, average, linear layer (AugLocal).",
    HeadKind.goodness: "Mean squares of groups of channels, without parameters (CwC).",
    HeadKind.infopro: "aux_1c2f beside a decoder of the images (InfoPro).",
    HeadKind.infopro_contrast: "The same with a contrastive loss in place of the cross-entropy.",
    HeadKind.tail: "The last modules of the network and its classifier (SegProp, with plan.head=carried).",
}
"""Values of `model.head`."""


def main(words: Sequence[str]) -> None:
    parser = Parser("list", __doc__)
    parser.add_argument("what", choices=list(LISTS), metavar="WHAT", help=", ".join(LISTS))
    what = parser.parse_args(words).what
    key, entries = LISTS[what]
    table = Table(key, "keys", "what it is")
    for name, keys, line in entries():
        table.add_row(name, ", ".join(keys), line)
    show(table)


def of_group(group: str) -> list[Entry]:
    """The files of a group of the configuration: their first comment, and the keys that they set."""
    found: list[Entry] = []
    for name in choices(group):
        text = (CONF / group / f"{name}.yaml").read_text()
        keys = [key for key in yaml.safe_load(text) if key not in ("defaults", "kind") and (key, group) not in CHOSEN]
        if name == "own":
            found.append(of_contract(group))
        else:
            found.append((name, [key for key in keys if key != TARGET] + arguments(text), description(text)))
    return found


def description(text: str) -> str:
    """The first sentence of the comment that a file begins with."""
    comment = itertools.takewhile(lambda line: line.startswith("# "), text.splitlines())
    return re.split(r"(?<=[^.]\.) ", " ".join(line.removeprefix("# ") for line in comment))[0]


def arguments(text: str) -> list[str]:
    """The arguments of the function that a file names, beside its keys and what the contract gives."""
    tree = yaml.safe_load(text)
    if TARGET not in tree:
        return []
    return [name for name in inspect.signature(get_method(tree[TARGET])).parameters if name not in (*tree, "root")]


def of_contract(place: str) -> Entry:
    """The function of another package at a place of the configuration."""
    line = (CONTRACTS[place].__doc__ or "").splitlines()[0].replace("`", "")
    return "own", [TARGET], f"{line} Parameters: {', '.join(offered(place))}, and your own."


def heads() -> list[Entry]:
    """The kinds of heads, with the keys that not all of them have."""
    found: list[Entry] = []
    for network in (SimCnnConfig, ResNetCifarConfig):
        names, used = [entry.name for entry in fields(network)], {}
        for kind in network.heads:
            data, cache = TorchvisionConfig(name="cifar10"), CacheConfig(kind=CacheKind.auto)
            config = resolve(Config(model=network(head=kind), dataset=data, cache=cache))
            used[kind] = {name for name in names if has_effect(f"model.{name}", config)}
        shared, known = set.intersection(*used.values()), {name for name, _, _ in found}
        found += [
            (kind.value, [name for name in names if name in used[kind] - shared], HEADS[kind])
            for kind in used
            if kind.value not in known
        ]
    return [*found, of_contract("model.head")]


def objectives() -> list[Entry]:
    """The losses."""
    shared = ["l1", "l2"]
    found = [(name.value, [*keys, *shared], line) for name, (keys, line) in LOSSES.items()]
    return [*found, (*of_contract("objective")[:1], [TARGET, *shared], of_contract("objective")[2])]


LISTS: dict[str, tuple[str, Callable[[], list[Entry]]]] = {
    "models": ("model=", lambda: of_group("model")),
    "heads": ("model.head=", heads),
    "datasets": ("dataset=", lambda: of_group("dataset")),
    "plans": ("plan=", lambda: of_group("plan")),
    "objectives": ("objective.loss=", objectives),
}
"""By what is listed: the key that chooses it, and the entries."""
