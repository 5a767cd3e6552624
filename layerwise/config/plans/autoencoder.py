"""`plan=autoencoder`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from layerwise.config.networks.base import given
from layerwise.config.plans.base import FinetuneConfig, GrowingConfig, ResolvedGrowing
from layerwise.core.errors import LayerwiseError
from layerwise.training.choices import LOSSES
from layerwise.training.plan import FineTuning, Stage, autoencoder

if TYPE_CHECKING:  # they import this module
    from layerwise.config.resolved import ResolvedConfig
    from layerwise.config.schema import Config


@dataclass
class AutoencoderFinetuneConfig(FinetuneConfig):
    """Stages that train the whole encoder under its decoder, and then with its classifier."""

    autoencoder_epochs: int = 0

    @property
    def wanted(self) -> bool:
        return self.epochs > 0 or self.autoencoder_epochs > 0


@dataclass
class AutoencoderConfig(GrowingConfig):
    """The keys of conf/plan/autoencoder.yaml."""

    title: ClassVar = "stacked autoencoder"
    reconstructs: ClassVar = True

    name: str = "autoencoder"
    classifier_epochs: int | None = None
    finetune: AutoencoderFinetuneConfig = field(default_factory=AutoencoderFinetuneConfig)

    def check(self, config: Config) -> None:
        super().check(config)
        loss = config.objective.reconstruction
        if LOSSES[loss].wanted == "unit" and config.dataset.standardise:
            raise LayerwiseError(f"objective.reconstruction={loss} needs inputs in [0, 1]: dataset.standardise=false.")

    def resolve(self, epochs: int, lr: float) -> ResolvedAutoencoder:
        values = self._resolved(epochs, lr)
        return ResolvedAutoencoder(**{**values, "classifier_epochs": given(self.classifier_epochs, values["epochs"])})


@dataclass(kw_only=True)
class ResolvedAutoencoder(AutoencoderConfig, ResolvedGrowing):
    """An encoder that grows under a decoder, with a classifier at each depth."""

    classifier_epochs: int

    def stages(self, config: ResolvedConfig) -> list[Stage]:
        stages = autoencoder(config.J, self.epochs, classifier_epochs=self.classifier_epochs, carried=self.carries)
        return self.freeze_heads(stages)

    @property
    def finetuning(self) -> FineTuning:
        tuned = self.finetune
        return FineTuning(tuned.epochs, tuned.autoencoder_epochs, self.classifier_epochs, tuned.lr)
