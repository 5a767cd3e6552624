"""Training images that are mixed in pairs, as a function of given random bits: mixup and cutmix.

mixup: Zhang et al., mixup: Beyond Empirical Risk Minimization (2018).
CutMix: Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features (2019).
Both papers draw one share for a whole batch; here each image has its own, which does not depend on its batch.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from layerwise.core.randomness import below, bits, key
from layerwise.core.shard import Shard

QUANTILES = 1 << 14
"""Values that a share can have."""


class Mixing:
    """Mixes each training image with a partner: another one in the same view, which is augmented as always.

    The partners of a view are a random permutation. It takes each image to another one with the same place in its batch
    (`features.batches.BatchPlan`), which the same process holds: the number of processes changes no pair.

    Args:
        mixup, cutmix: α of the Beta(α, α) distribution that shares are drawn from; 0: not done. With both each image
            goes through one of them, with equal probability.
        classes: c.
        places: B/N, images of this process in a batch.
        shard: the part of the training images that this process holds.
    """

    def __init__(self, mixup: float, cutmix: float, classes: int, places: int, seed: int, shard: Shard) -> None:
        self.mixup, self.cutmix, self.classes, self.places = mixup, cutmix, classes, places
        self.seed, self.shard = seed, shard
        self._partners = lru_cache(maxsize=2)(self._find_partners)
        self._shares = lru_cache(maxsize=4)(beta_quantiles)

    def partners(self, view: int, n: int, device: torch.device) -> Tensor:
        """Returns the position of the partner of each of this process's n training images, int64 [n]."""
        return self._partners(view, n, device)

    def mixed(self, images: Tensor, partners: Tensor, view: int, samples: Tensor) -> Tensor:
        """Returns the mixed images.

        Args:
            images, partners: float32 [B, C, H, W].
            samples: numbers of the images in the full data set, int64 [B].
        """
        height, width = images.shape[2:]
        weight, box = self._weights(view, samples, height, width)
        blended = torch.lerp(images, partners, weight[:, None, None, None]) if self.mixup else images
        return torch.where(box, partners, blended) if box is not None else blended

    def shares(
        self, labels: Tensor, of_partners: Tensor, view: int, samples: Tensor, height: int, width: int
    ) -> Tensor:
        """Returns the shares of the classes in the mixed images, float32 [B, c]: λ of its own, 1 − λ of its partner's.

        Args:
            labels, of_partners: int64 [B].
        """
        weight, box = self._weights(view, samples, height, width)
        if box is not None:
            weight = weight + box.sum(dim=(1, 2, 3)) / (height * width)  # one of them is 0
        own, other = (F.one_hot(of, self.classes).float() for of in (labels, of_partners))
        return torch.lerp(own, other, weight[:, None])

    def _weights(self, view: int, samples: Tensor, height: int, width: int) -> tuple[Tensor, Tensor | None]:
        """Returns 1 − λ of mixup [B], and the pixels that cutmix takes from the partner, bool [B, 1, H, W]."""
        draws = bits(key("mixing", self.seed, view), samples)
        place = below(draws, QUANTILES, lane=0)
        zero = torch.zeros(len(samples), device=samples.device)
        cut = below(draws, 2, lane=1).bool() if self.mixup else torch.ones_like(place, dtype=torch.bool)
        weight = 1 - self._shares(self.mixup, samples.device)[place] if self.mixup else zero
        if not self.cutmix:
            return weight, None
        area = 1 - self._shares(self.cutmix, samples.device)[place]
        centres = bits(key("mixing", "centre", self.seed, view), samples)
        covered = [
            self._covered(below(centres, size, lane), (size * area.sqrt()).long(), size)
            for lane, size in enumerate((height, width))
        ]
        box = covered[0][:, :, None] & covered[1][:, None, :] & cut[:, None, None]
        return torch.where(cut, zero, weight), box[:, None]

    def _covered(self, centre: Tensor, length: Tensor, size: int) -> Tensor:
        """Returns which places of a line lie in a piece of some length about a centre, bool [B, size]."""
        after = torch.arange(size, device=centre.device) - (centre - length // 2)[:, None]
        return (after >= 0) & (after < length[:, None])

    def _find_partners(self, view: int, n: int, device: torch.device) -> Tensor:
        rounds = -(-n // self.places)
        own = torch.arange(rounds * self.places, device=device)
        draws = bits(key("partners", self.seed, view), own * self.shard.ranks + self.shard.rank)
        draws[n:] = torch.iinfo(torch.int64).max  # what the last round lacks stays last
        order = torch.argsort(draws.view(rounds, self.places), dim=0, stable=True)  # [rounds, B/N]
        following = order.roll(-1, dims=0)
        place = own[: self.places]
        present = rounds - (place >= n - (rounds - 1) * self.places).long()  # images with this place
        following[present - 1, place] = order[0]  # the last one's partner is the first
        partner = torch.empty_like(order).scatter_(0, order, following)
        return (partner * self.places + place).flatten()[:n]


def beta_quantiles(alpha: float, device: torch.device) -> Tensor:
    """Returns evenly spaced quantiles of Beta(α, α), float32 [`QUANTILES`]; one at random has that distribution."""
    from scipy.special import betaincinv  # slow to import, and needed here only

    levels = (torch.arange(QUANTILES, dtype=torch.float64) + 0.5) / QUANTILES
    return torch.from_numpy(betaincinv(alpha, alpha, levels.numpy())).float().to(device)
