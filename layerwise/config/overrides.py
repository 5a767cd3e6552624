"""The arguments that a run was started with, which its report shows as the command to repeat it."""

from __future__ import annotations

import shlex

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig


def train_command() -> str | None:
    """`layerwise train dataset=digits k=2`, the words as they were given; None where Hydra did not start the run.

    Of a job of a multirun it has the values of that job. Interpolations are not resolved.
    """
    if not (GlobalHydra.instance().is_initialized() and HydraConfig.initialized()):
        return None
    return shlex.join(["layerwise", "train", *HydraConfig.get().overrides.task])
