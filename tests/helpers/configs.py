"""Configurations from overrides."""

from __future__ import annotations

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from helpers.commands import ROOT
from layerwise.commands.compose import configuration
from layerwise.commands.overrides import checked
from layerwise.config.resolved import ResolvedConfig


def composed(*overrides: str, **options: bool):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", checked(overrides), **options)


def configured(*words: str) -> ResolvedConfig:
    return configuration(words)
