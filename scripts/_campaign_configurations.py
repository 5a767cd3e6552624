"""Random bad configurations: every key of the schema with values of every kind that does not belong there.

Each is composed, parsed, resolved and built as `layerwise train … summary=json` does, without training.
"""

from __future__ import annotations

import io
import math
import random
import shlex
import tempfile
import types
import typing
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

from _campaign_judging import Outcome, Tally, fault, in_child

from layerwise.commands.compose import composed
from layerwise.commands.errors import reported
from layerwise.config.kinds import KINDS
from layerwise.config.ranges import RANGES
from layerwise.config.schema import Config
from layerwise.experiment.run import run as train

SECONDS, ADDRESS_GB = 30, 12

TINY = ["dataset=digits", "k=2", "J=2", "model.width=4", "model.head_width=4", "model.downsample=[2]", "batch_size=32"]
MLP = ["dataset=blobs", "model=mlp", "k=2", "model.width=8", "J=2"]
BASES: tuple[list[str], ...] = (
    TINY,
    [*TINY, "dataset.validation=0.2", "plan.patience=1", "cache=memory", "optimizer=adam"],
    [*TINY, "plan=joint", "optimizer.schedule=cosine"],
    [*TINY, "plan=simultaneous", "optimizer.schedule=onecycle", "logger=wandb", "logger.wandb.mode=offline"],
    [*TINY[:4], *TINY[5:], "model.head=predsim", "cache=disk"],
    ["dataset=digits", "model=simcnn", "k=1", "J=1", "model.width=4", "model.downsample=[]", "cache=none"],
    [*MLP, "plan=autoencoder"],
    [*MLP, "optimizer=adamw", "cache=auto"],
    ["dataset=table", "dataset.path={csv}", "model=mlp", "k=2", "model.width=8", "J=2"],
    ["dataset=cifar10", "model=vgg", "model.depth=11", "k=2", "cache=none"],
)
"""What the bad values are put into."""

VALUES = (
    *("-1", "0", "1", "2", "1.5", "-0.5", "1e-320", "1e308", "nan", "inf", "-inf", "100000", "1000000000000"),
    *(str(2**31), str(2**63), "99999999999999999999999", "-99999999999999999999999", "0x10", "1_000", "'3'", "'0.5'"),
    *("null", "", "''", "' '", "true", "false", "three", "???", "[]", "[1]", "[1,2]", "[[1],[2]]", "[null]", "['']"),
    *("[nan]", "[-1]", "[1.5]", "[a]", "{{}}", "{{a: 1}}", "{{a: {{b: 1}}}}", "{{1: 2}}", "\0", "'a\0b'", "[\0]", "é"),
    *("'${{nothing}}'", "'${{oc.env:NOTHING_OF_THE_KIND}}'", "'${{'", "a/b", "../x", "~", "-", "%s", "{{", "[", "a=b"),
    *("'\n'", "'x\ny'", "\U0001f600", "'" + "x" * 300 + "'", "cuda:99", "epochs", "1,2", "range(1,3)", "[99999999999]"),
)


@dataclass(frozen=True)
class Key:
    """A key of the schema: its dotted name and its type."""

    name: str
    kind: Any


def keys(config: type[Any], prefix: str = "") -> Iterator[Key]:
    """All keys, with those of every network and data set."""
    types_of, groups = typing.get_type_hints(config), {kinds.group: kinds.classes.values() for kinds in KINDS}
    for entry in fields(config):
        if not entry.metadata.get("is_key", True):
            continue
        kind = types_of[entry.name]
        if entry.name in groups and not prefix:
            found = {key.name: key for one in groups[entry.name] for key in keys(one, f"{entry.name}.")}
            yield from found.values()
        elif is_dataclass(kind):
            assert isinstance(kind, type)
            yield from keys(kind, f"{prefix}{entry.name}.")
        else:
            yield Key(prefix + entry.name, kind)


def is_legal(key: Key, value: Any) -> bool:
    """Whether a value is one that the key's type and range allow, so that a run may use it without a word."""
    if typing.get_origin(key.kind) is types.UnionType:
        return any(is_legal(Key(key.name, kind), value) for kind in typing.get_args(key.kind))
    if key.kind is type(None) or value is None:
        return value is None and key.kind in (type(None), Any)
    return _has_type(key.kind, value) and all(
        holds(_as(key.kind, value)) for names, _, holds in RANGES if key.name in names
    )


def _has_type(kind: Any, value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if typing.get_origin(kind) is list:
        return isinstance(value, list) and all(_has_type(typing.get_args(kind)[0], one) for one in value)
    if typing.get_origin(kind) is dict:
        return isinstance(value, dict)
    if kind is bool:
        return isinstance(value, bool) or str(value).lower() in ("0", "1", "true", "false", "on", "off", "yes", "no")
    if kind is int:
        return not isinstance(value, bool | float) and _is_number(value, int) and abs(int(value)) < 2**63
    if kind is float:
        return not isinstance(value, bool) and _is_number(value, float) and math.isfinite(float(value))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return value in [one.value for one in kind]
    if kind is str:
        return number or isinstance(value, bool) or (isinstance(value, str) and value != "" and "\0" not in value)
    assert kind is Any, kind  # cache.views, dataset.class_weights: their own checks decide
    return number or isinstance(value, str | list)


def _as(kind: Any, value: Any) -> Any:
    return kind(value) if kind in (int, float, str) else value


def _is_number(value: Any, kind: type[int] | type[float]) -> bool:
    try:
        kind(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def check(words: Sequence[str]) -> None:
    """Does what `layerwise train` does with arguments, without Hydra's own command line."""
    with reported():
        train(composed(words))


def parsed(text: str) -> Any:
    """The value that Hydra reads from a text; the text itself where it cannot."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    try:
        return OverridesParser.create().parse_override(f"k={text}").value()
    except Exception:
        return text


def cases(count: int, seed: int) -> Iterator[tuple[list[str], list[tuple[Key, str]]]]:
    """Arguments, and the bad ones among them as pairs of a key and a text. Every key comes before one comes again."""
    chance, every = random.Random(seed), list(keys(Config))
    for number in range(count):
        if number % len(every) == 0:
            chance.shuffle(every)
        chosen = [every[number % len(every)]]
        if chance.random() < 0.15:
            chosen.append(chance.choice(every))
        bad = [(key, chance.choice(VALUES).format()) for key in chosen]
        yield chance.choice(BASES), bad


def run(count: int, seed: int) -> Tally:
    tally = Tally("configurations")
    with tempfile.TemporaryDirectory() as folder:
        csv = Path(folder, "table.csv")
        csv.write_text("a,b,label\n" + "".join(f"{n},{n % 7},{'xy'[n % 2]}\n" for n in range(100)))
        fixed = ["summary=json", f"output_dir={folder}", "report=false"]
        for base in BASES:  # in this process: warms it, and each must be good
            with redirect_stdout(io.StringIO()):
                check([word.format(csv=csv) for word in (*fixed, *base)])
        for base, bad in cases(count, seed):
            given = [f"{key.name}={text}" for key, text in bad]
            words = [word.format(csv=csv) for word in (*fixed, *base)] + given
            outcome = in_child(partial(check, words), SECONDS, ADDRESS_GB)
            legal = all(is_legal(key, parsed(text)) for key, text in bad)
            tally.add(outcome, verdict(outcome, [key.name for key, _ in bad], legal), shlex.join(words[len(fixed) :]))
    return tally


def verdict(outcome: Outcome, names: Sequence[str], legal: bool) -> str | None:
    """The kind of fault. A message may name the key, its group, or the keys that it does not go with."""
    groups = {name.split(".")[0] for name in names}
    return fault(outcome, [*names, *groups], acceptable=legal)
