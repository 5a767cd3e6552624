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

import yaml
from hydra.utils import get_method
from rich.table import Table

from layerwise.commands.arguments import Parser
from layerwise.commands.conf_files import CONF, choices
from layerwise.config.heads import HEADS
from layerwise.config.outside import TARGET, offered
from layerwise.reporting.tables import show
from layerwise.training.choices import LOSSES
from layerwise.training.contracts import CONTRACTS

Entry = tuple[str, Sequence[str], str]
"""Name, keys and what it is."""

CHOSEN = (("name", "dataset"), ("name", "plan"))
"""Keys that the choice itself sets, with their groups."""


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
    """The kinds of heads, with the keys of `model` that not all of them have."""
    found = [
        (name, [key.removeprefix("model.") for key in kind.keys if key.startswith("model.")], kind.line)
        for name, kind in HEADS.items()
    ]
    return [*found, of_contract("model.head")]


def objectives() -> list[Entry]:
    """The losses."""
    shared = ["l1", "l2"]
    found = [(name, [*loss.keys, *shared], loss.line) for name, loss in LOSSES.items()]
    return [*found, (*of_contract("objective")[:1], [TARGET, *shared], of_contract("objective")[2])]


LISTS: dict[str, tuple[str, Callable[[], list[Entry]]]] = {
    "models": ("model=", lambda: of_group("model")),
    "heads": ("model.head=", heads),
    "datasets": ("dataset=", lambda: of_group("dataset")),
    "plans": ("plan=", lambda: of_group("plan")),
    "objectives": ("objective.loss=", objectives),
}
"""By what is listed: the key that chooses it, and the entries."""
