"""From arguments of `layerwise train` to a `ResolvedConfig` without starting a run."""

from __future__ import annotations

from collections.abc import Sequence

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from layerwise.commands.conf_files import CONF
from layerwise.commands.overrides import checked
from layerwise.config.parse import parse
from layerwise.config.resolve import resolve
from layerwise.config.resolved import ResolvedConfig


def configuration(words: Sequence[str]) -> ResolvedConfig:
    """The resolved configuration of some arguments of `layerwise train`.

    Raises:
        LayerwiseError, HydraException: as `layerwise train` would report.
    """
    return resolve(parse(composed(words)))


def composed(words: Sequence[str]) -> DictConfig:
    """What Hydra makes of some arguments of `layerwise train`, unchecked.

    Raises:
        LayerwiseError, HydraException: as `layerwise train` would report.
    """
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", checked(words))
